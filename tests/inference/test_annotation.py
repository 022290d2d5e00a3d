from dataclasses import replace

import numpy as np
import pytest

from src.data.readers.frames import Frame
from src.inference.annotation import CARD_SECONDS, SMALLEST_HEIGHT, Annotator
from src.inference.cards import COLORS, UNSURE
from src.inference.results import Box, FacePrediction, Prediction
from tests.inference.conftest import SEVEN

GRAY = 90


def face(x, y, side, top="happy", **values):
    box = Box(float(x), float(y), float(side), float(side))
    rest = dict.fromkeys(SEVEN, 0.05)
    return FacePrediction(box, box, {**rest, top: 0.7}, **values)


def scene(width, height, *faces):
    return Prediction(Frame("image", np.full((height, width, 3), GRAY, np.uint8)), faces)


def film_frame(index, *faces):
    return Prediction(Frame("film", np.full((480, 640, 3), GRAY, np.uint8), index, index / 25), faces)


def near(image, color):
    """Return where an image has a color, (H, W)."""
    return (np.abs(image.astype(int) - np.array(color)).max(axis=2) < 12).astype(bool)


def test_a_box_of_the_color_of_its_class_is_drawn_about_the_face():
    image = Annotator().draw(scene(640, 480, face(200, 150, 100)))
    assert image.shape[0] == 480
    assert (image[60:90, 20:120] == GRAY).all()
    drawn = near(image[:, :640], COLORS["happy"])
    rows, columns = np.nonzero(drawn)
    assert abs(columns.min() - 200) <= 3
    assert abs(rows.max() - 249) <= 3
    assert drawn[200, 199:202].any()
    assert not near(image[170:230, 220:280], COLORS["happy"]).any()


def test_the_card_shows_the_probabilities_in_proportion():
    image = Annotator().draw(scene(640, 480, face(200, 150, 100)))
    longest = max(near(image[:, 640:], COLORS["happy"]).sum(axis=1))
    other = Annotator().draw(
        scene(640, 480, replace(face(200, 150, 100), probabilities={**dict.fromkeys(SEVEN, 0.1), "happy": 0.35}))
    )
    shorter = max(near(other[:, 640:], COLORS["happy"]).sum(axis=1))
    assert shorter / longest == pytest.approx(0.5, abs=0.05)


def test_the_point_of_the_circumplex_moves_with_valence_and_arousal():
    places = []
    for valence, arousal in ((0.6, 0.5), (-0.6, -0.5)):
        image = Annotator().draw(scene(640, 480, face(50, 50, 100, "sad", valence=valence, arousal=arousal)))
        card = near(image[:, 640 + 240 :], COLORS["sad"])
        card[: 480 // 2 - 40] = False  # the title
        places.append(np.argwhere(card).mean(axis=0))
    (high, right), (low, left) = places
    assert high < low
    assert left < right


def test_without_valence_there_is_no_circumplex():
    with_affect = Annotator().draw(scene(640, 480, face(50, 50, 100, valence=0.1, arousal=0.1)))
    without = Annotator().draw(scene(640, 480, face(50, 50, 100)))
    assert with_affect.shape == without.shape
    assert max(near(without[:, 640:], COLORS["happy"]).sum(axis=1)) > max(
        near(with_affect[:, 640:], COLORS["happy"]).sum(axis=1)
    )


@pytest.mark.parametrize("size", [(1, 1), (31, 47), (48, 48), (3000, 40), (40, 3000), (4000, 3000), (641, 481)])
def test_images_of_any_size(size):
    width, height = size
    image = Annotator().draw(scene(width, height, face(0, 0, max(1, min(size)))))
    assert SMALLEST_HEIGHT <= image.shape[0] <= 1080
    assert image.shape[1] < 1920 + 1100
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    assert near(image, COLORS["happy"]).any()


def test_no_face_and_fifty_faces():
    assert (Annotator().draw(scene(640, 480))[:, :640] == GRAY).all()
    many = [face(20 + 60 * (i % 10), 20 + 90 * (i // 10), 40) for i in range(50)]
    image = Annotator().draw(scene(640, 480, *many))
    for i in range(50):
        x, y = 20 + 60 * (i % 10), 20 + 90 * (i // 10)
        assert near(image[y + 30 : y + 45, x : x + 40], COLORS["happy"]).any()


def test_all_frames_of_a_film_have_one_size():
    annotator = Annotator()
    frames = [film_frame(0), film_frame(1, face(9, 9, 90, track=1)), film_frame(2, *[face(9, 9, 90, track=2)] * 9)]
    odd = Prediction(Frame("film", np.full((333, 555, 3), GRAY, np.uint8), 3, 0.1), ())
    assert len({annotator.draw(frame).shape for frame in [*frames, odd]}) == 1


@pytest.mark.parametrize("size", [(240, 320), (960, 1280), (640, 360), (480, 641)])
def test_frames_that_change_their_size_keep_their_shape_and_boxes(size):
    """The box of a face stays about it, whatever the first frame's size was; its image is not stretched."""
    annotator = Annotator()
    annotator.draw(film_frame(0))
    height, width = size
    pixels = np.full((height, width, 3), GRAY, np.uint8)
    side = height // 4
    pixels[side : 2 * side, side : 2 * side] = (0, 0, 255)
    frame = Frame("film", pixels, 1, 0.04)
    drawn = annotator.draw(Prediction(frame, (face(side, side, side, track=1),)))[:, :640]
    blue = np.argwhere(near(drawn, (0, 0, 255)))
    (top, left), (bottom, right) = blue.min(axis=0), blue.max(axis=0)
    assert bottom - top == pytest.approx(right - left, abs=2)
    rows, columns = np.nonzero(near(drawn, COLORS["happy"]))
    assert (columns.min(), columns.max()) == pytest.approx((left, right), abs=5)
    assert rows.max() == pytest.approx(bottom, abs=5)


def test_a_card_keeps_its_place_and_outlives_a_blink():
    annotator = Annotator()
    annotator.draw(film_frame(0, face(9, 9, 90, "sad", track=1), face(300, 9, 90, "angry", track=2)))
    gone = annotator.draw(film_frame(1, face(300, 9, 90, "angry", track=2)))
    sad, angry = (np.argwhere(near(gone[:, 640:], COLORS[name]))[:, 0] for name in ("sad", "angry"))
    assert len(sad)
    assert sad.max() < angry.min()
    late = annotator.draw(film_frame(1 + round(25 * CARD_SECONDS) + 1, face(300, 9, 90, "angry", track=2)))
    assert not near(late[:, 640:], COLORS["sad"]).any()


def test_the_trail_is_forgotten():
    annotator = Annotator()
    for i in range(150):
        annotator.draw(film_frame(i, face(9, 9, 90, track=1, valence=0.1, arousal=0.1)))
    assert len(annotator._people) == 1
    assert len(annotator._people[1].trail) <= 52


def test_landmarks_only_on_request():
    points = np.stack([np.linspace(60, 140, 68), np.full(68, 100)], axis=1).astype(np.float32)
    faces = face(50, 50, 100, landmarks=points)
    plain = Annotator().draw(scene(640, 480, faces))
    marked = Annotator(landmarks=True).draw(scene(640, 480, faces))
    changed = np.argwhere((plain != marked).any(axis=2))
    assert len(changed)
    assert changed.min(axis=0).tolist() >= [95, 55]
    assert (changed.max(axis=0) <= [105, 145]).all()


def test_a_face_that_is_not_to_be_trusted_is_gray():
    sure = Annotator().draw(scene(640, 480, face(200, 150, 100)))
    unsure = Annotator().draw(scene(640, 480, face(200, 150, 100, reasons=("blurred",))))
    assert near(sure, COLORS["happy"]).sum() > 500
    assert not near(unsure, COLORS["happy"]).any()
    assert near(unsure, UNSURE).sum() > 500


def test_heat_turns_with_the_crop():
    heat = np.zeros((64, 64), np.float32)
    heat[:32] = 1  # the upper half, which a quarter turn clockwise takes to the right
    image = Annotator(cards=False).draw(scene(640, 480, face(200, 100, 200, heat=heat, roll=90.0)))
    colored = (image[..., 0].astype(int) > image[..., 1].astype(int) + 40)[130:270]
    assert colored[:, 310:385].all()
    assert not colored[:, 215:290].any()


def test_heat_is_laid_over_the_crop():
    heat = np.zeros((64, 64), np.float32)
    heat[:32] = 1
    image = Annotator().draw(scene(640, 480, face(-40, 100, 200, heat=heat)))
    marked = image[140:180, 10:140].astype(int)
    assert (marked[..., 0] > marked[..., 1] + 40).all()
    assert (image[215:290, 10:140] == GRAY).all()
    outside = face(2000, 2000, 50, heat=heat)
    assert (Annotator().draw(scene(640, 480, outside))[:, :600] == GRAY).all()
