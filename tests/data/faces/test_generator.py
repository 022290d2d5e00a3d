"""Tests of the synthetic faces: reproducible, labeled right, landmarks where the features are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from src.data.faces.actions import EXPRESSIONS
from src.data.faces.drawing import Pose
from src.data.faces.generator import Face, draw_face, draw_scene

ROOT = Path(__file__).resolve().parents[3]
FEATURES = (slice(17, 27), slice(36, 48), slice(48, 68))  # landmarks of brows, eyes and mouth


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    """Faces of all expressions, 48 pixels."""
    return [draw_face(11, index, 48) for index in range(420)]


def _feature_mask(*generated: Face) -> NDArray[np.bool_]:
    """Pixels of the brows, eyes and mouths of the faces, which have one size."""
    size = generated[0].image.shape[0]
    mask = np.zeros((size, size), bool)
    for face in generated:
        for feature in FEATURES:
            low = np.clip(np.floor(face.landmarks[feature].min(axis=0)) - 3, 0, size).astype(int)
            high = np.clip(np.ceil(face.landmarks[feature].max(axis=0)) + 3, 0, size).astype(int)
            mask[low[1] : high[1], low[0] : high[0]] = True
    return mask


def test_same_pixels_in_any_order_and_process() -> None:
    forward = [draw_face(3, index).image for index in range(4)]
    backward = [draw_face(3, index).image for index in reversed(range(4))][::-1]
    assert np.array_equal(forward, backward)
    code = (
        "import hashlib; from src.data.faces.generator import draw_face;"
        "print(hashlib.sha256(draw_face(3, 2).image.tobytes()).hexdigest())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert output.strip() == hashlib.sha256(forward[2].tobytes()).hexdigest()


def test_seed_and_index_change_the_image() -> None:
    first = draw_face(0, 1).image
    assert not np.array_equal(first, draw_face(1, 0).image)
    assert not np.array_equal(first, draw_face(0, 2).image)
    assert not np.array_equal(first, draw_scene(0, 1, 64)[0])


@pytest.mark.parametrize("size", [16, 48, 100, 224])
def test_any_size(size: int) -> None:
    face = draw_face(5, 7, size)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    assert face.landmarks.shape == (68, 2)
    assert face.landmarks.dtype == np.float32
    x, y, width, height = face.box
    assert 0 <= x < x + width <= size
    assert 0 <= y < y + height <= size
    reference = draw_face(5, 7, 64).landmarks
    assert np.allclose((face.landmarks + 0.5) / size, (reference + 0.5) / 64, atol=1e-4)


def test_grayscale_has_equal_channels() -> None:
    image = draw_face(5, 7, grayscale=True).image
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image[..., 0], image[..., 2])


def test_expressions_are_about_uniform(faces: list[Face]) -> None:
    names = [face.expression for face in faces]
    assert set(names) == set(EXPRESSIONS)
    assert min(names.count(name) for name in EXPRESSIONS) > 30


def test_one_person_shows_all_expressions() -> None:
    generated = [draw_face(2, 9, expression=name) for name in (*EXPRESSIONS, "contempt")]
    assert [face.expression for face in generated] == [*EXPRESSIONS, "contempt"]
    temples_and_eye_corners = [0, 16, 36, 45]
    still = np.array([face.landmarks[temples_and_eye_corners] for face in generated])
    assert np.allclose(still, still[0], atol=1e-3)


def test_affect_follows_the_expression(faces: list[Face]) -> None:
    affect = {
        name: np.mean([(f.valence, f.arousal) for f in faces if f.expression == name], axis=0) for name in EXPRESSIONS
    }
    assert all(-1.0 <= value <= 1.0 for face in faces for value in (face.valence, face.arousal))
    assert np.abs(affect["neutral"]).max() < 0.06
    assert affect["happy"][0] > 0.4
    assert affect["sad"][0] < -0.3
    assert affect["sad"][1] < -0.2
    assert all(affect[name][0] < -0.2 < 0.3 < affect[name][1] for name in ("fear", "angry"))
    assert affect["surprise"][1] > 0.4 > abs(affect["surprise"][0])


def test_landmarks_are_in_ibug_order() -> None:
    for index in range(30):
        _, (face,) = draw_scene(1, index)
        points = face.landmarks
        slack = 0.02 * face.box[2]  # the steep sides of the jaw may lean over when the head rolls
        for run in (range(17), range(17, 27), range(31, 36), range(48, 55), range(60, 65)):
            assert np.all(np.diff(points[list(run), 0]) > -slack), f"{run} from left to right"
            assert points[run[-1], 0] - points[run[0], 0] > 5 * slack
        for run in (range(55, 60), range(65, 68)):
            assert np.all(np.diff(points[list(run), 0]) < 0), f"{run} from right to left"
        parts = (slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68))
        heights = [points[part, 1].mean() for part in parts]
        assert np.all(np.diff([*heights, points[8, 1]]) > 0), "brows, eyes, nose, mouth, chin downwards"
        assert points[[37, 38, 43, 44], 1].max() < points[[40, 41, 46, 47], 1].min() + 0.25 * face.box[3]
        assert points.min() >= 0
        assert points.max() < 256


def test_landmarks_follow_the_roll() -> None:
    points = np.random.default_rng(0).uniform(-1.0, 1.0, (68, 2))
    upright = Pose(0.2, 0.1, 0.0, 50.0, (64.0, 60.0)).project(points) - (64.0, 60.0)
    rolled = Pose(0.2, 0.1, 0.3, 50.0, (64.0, 60.0)).project(points) - (64.0, 60.0)
    rotation = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    assert np.allclose(rolled, upright @ rotation)


def test_pupils_are_within_the_eyes() -> None:
    distances = []
    for index in range(20):
        image, (face,) = draw_scene(4, index, expression="surprise", grayscale=True)
        for corners in ((36, 39), (42, 45)):
            opening = face.landmarks[corners[0] : corners[0] + 6]
            # Without their upper edge, where the lashes are as dark as a pupil.
            low, high = opening.min(axis=0) + np.array([0, 3]), opening.max(axis=0)
            patch = image[round(low[1]) : round(high[1]), round(low[0]) : round(high[0]), 0].astype(float)
            y, x = np.unravel_index(np.argmin(cv2.blur(patch, (3, 3))), patch.shape)
            offset = low + np.array([x, y]) - face.landmarks[list(corners)].mean(axis=0)
            distances.append(np.hypot(*offset) / np.ptp(opening[:, 0]))
    assert np.quantile(distances, 0.9) < 0.35  # glasses may hide some
    assert np.median(distances) < 0.15


def test_actions_move_the_mouth() -> None:
    def mouth(name: str) -> tuple[float, float]:
        """Mean height of the corners over the lips' middle, and opening, in widths of the face's box."""
        generated = [draw_scene(6, index, expression=name)[1][0] for index in range(15)]
        width = np.array([face.box[2] for face in generated])
        points = np.array([face.landmarks for face in generated])[..., 1]
        corners = points[:, [62, 66]].mean(axis=1) - points[:, [48, 54]].mean(axis=1)
        return float(np.mean(corners / width)), float(np.mean((points[:, 66] - points[:, 62]) / width))

    neutral, happy, sad, surprise = (mouth(name) for name in ("neutral", "happy", "sad", "surprise"))
    assert happy[0] > neutral[0] + 0.03 > neutral[0] - 0.03 > sad[0]
    assert surprise[1] > neutral[1] + 0.08


def test_expression_is_in_brows_eyes_and_mouth() -> None:
    inside, outside = [], []
    for index in range(20):
        calm = draw_face(8, index, expression="neutral")
        moved = draw_face(8, index, expression=EXPRESSIONS[1 + index % 6])
        difference = np.abs(calm.image.astype(float) - moved.image).mean(axis=2)
        mask = _feature_mask(calm, moved)
        inside.append(difference[mask].mean())
        outside.append(difference[~mask].mean())
    assert np.mean(inside) > 3.0 * np.mean(outside)


def _accuracy(inputs: NDArray[Any], labels: list[str], training: int) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100))
    model.fit(inputs[:training], labels[:training])
    return float(model.score(inputs[training:], labels[training:]))


def test_geometry_tells_the_expression_but_single_pixels_do_not(faces: list[Face]) -> None:
    labels = [face.expression for face in faces]
    points = np.array([face.landmarks for face in faces])
    points = points - points.mean(axis=1, keepdims=True)
    points /= points.std(axis=(1, 2), keepdims=True)
    pixels = np.array([cv2.resize(face.image, (16, 16))[..., 1].ravel() for face in faces], float)
    from_points = _accuracy(points.reshape(len(faces), -1), labels, training=300)
    from_pixels = _accuracy(pixels, labels, training=300)
    assert from_points > 0.6
    assert from_pixels < 0.6 * from_points


def test_scene_holds_the_faces_it_names() -> None:
    image, found = draw_scene(0, 0, 300, faces=4)
    assert image.shape == (300, 300, 3)
    assert len(found) == 4
    boxes = np.array([face.box for face in found])
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    assert len({(bool(x > 150), bool(y > 150)) for x, y in middles}) == 4
    for index in range(20):
        _, (face,) = draw_scene(0, index, 200)
        assert 0.39 * 200 <= face.box[2] <= 0.66 * 200


def test_haar_cascade_finds_the_faces() -> None:
    cascade = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    detector = cv2.CascadeClassifier(str(cascade))
    n_found = 0
    for index in range(40):
        image, (face,) = draw_scene(9, index, grayscale=True)
        middle = np.array(face.box[:2]) + np.array(face.box[2:]) / 2
        found = detector.detectMultiScale(image[..., 0], 1.1, 4, minSize=(60, 60))
        distances = [np.abs((x + width / 2, y + height / 2) - middle).max() for x, y, width, height in found]
        n_found += min(distances, default=np.inf) < face.box[2] / 4
    assert n_found >= 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 15}, "size: got 15"),
        ({"expression": "bored"}, "expression: got 'bored'"),
        ({"index": -1}, "seed and index: got 0 and -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_face(**{"seed": 0, "index": 0, **arguments})
    with pytest.raises(ValueError, match=message):
        draw_scene(**{"seed": 0, "index": 0, **arguments})


def test_scene_needs_a_face() -> None:
    with pytest.raises(ValueError, match="faces: got 0"):
        draw_scene(0, 0, faces=0)
