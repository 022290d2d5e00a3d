import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.data.faces.generator import draw_face, draw_scene
from src.data.readers.frames import Frame
from src.data.readers.images import UnreadableImage
from src.inference import EmotionPredictor
from src.inference.backend import BackendOutput
from src.inference.detection import Detection
from src.inference.results import Box
from src.utils.errors import ConfigError
from tests.inference.conftest import SEVEN, assert_close, tiny_model


class Counting:
    """A backend whose outputs tell which crops it was shown."""

    class_names, image_size, grayscale, crop, outputs = SEVEN, 64, False, "fer2013", ("expression", "landmarks")

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        probabilities = torch.zeros(len(images), 7)
        probabilities[:, 1] = images.mean(dim=(1, 2, 3))
        landmarks = torch.arange(136).reshape(1, 68, 2).expand(len(images), -1, -1).float() % 64
        return BackendOutput(probabilities, landmarks=landmarks)


def quarters(image):
    """Detect a face in each quarter of an image."""
    h, w = image.shape[0] / 2, image.shape[1] / 2
    return [Detection(Box(x * w, y * h, w, h), None) for x in range(2) for y in range(2)]


def plain_frame(i, level=None):
    return Frame("film", np.full((128, 128, 3), i if level is None else level, np.uint8), i, i / 25)


def test_it_finds_and_predicts_every_face(weights):
    image, faces = draw_scene(3, 4, 640, faces=4)
    prediction = EmotionPredictor(weights).predict(image)
    assert len(prediction.faces) == 4
    for face in prediction.faces:
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert tuple(face.probabilities) == SEVEN
        assert face.probabilities[face.expression] == face.probability
        assert face.valence is not None
        center = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
        assert sum(f.box[0] < center[0] < f.box[0] + f.box[2] and f.box[1] < center[1] < f.box[1] + f.box[3]
                   for f in faces) == 1  # fmt: skip


def test_a_model_of_the_hub_predicts_the_same(weights, hub):
    repository = hub.add("me/model", {"own.safetensors": Path(weights).read_bytes()})
    repository.refs["v1"] = repository.refs["main"]
    repository.commit({})
    options = {"detector": "none", "backend": "torch"}
    image = draw_face(3, 1, 64).image
    expected = EmotionPredictor(weights, **options).predict(image).faces[0].probabilities
    for found in (
        EmotionPredictor.from_pretrained("me/model", revision="v1", **options),
        EmotionPredictor.from_pretrained("me/model", revision="v1", filename="own.safetensors", **options),
        EmotionPredictor("hf://me/model@v1", detector="none"),
    ):
        assert found.predict(image).faces[0].probabilities == pytest.approx(expected, abs=1e-2)
    with pytest.raises(ConfigError, match=r"hf://me/model has no \.safetensors"):
        EmotionPredictor.from_pretrained("me/model")
    with pytest.raises(ConfigError, match=r"hf://a/b/c: .*[Rr]epo id"):
        EmotionPredictor.from_pretrained("a/b/c")


@pytest.mark.parametrize("options", [{}, {"detector": "none", "gradcam": True}])
def test_it_can_be_sent_to_another_process(weights, options):
    image = draw_face(3, 0, 64, grayscale=False).image
    predictor = EmotionPredictor(weights, **options)
    expected = predictor.predict(image)  # an explainer and its hooks are there by now
    again = pickle.loads(pickle.dumps(predictor)).predict(image)
    assert [face.probabilities for face in again.faces] == [face.probabilities for face in expected.faces]


@pytest.mark.parametrize(("options", "n"), [({}, 240), ({"detector": "none", "gradcam": True}, 80)])
def test_threads_get_their_own_faces(weights, options, n):
    """Eight threads with a predictor between them: each answer as it would be alone."""
    predictor = EmotionPredictor(weights, backend="torch", precision="32-true", **options)
    images = [draw_scene(3, i, 120 + 4 * i, faces=1 + i % 2)[0] for i in range(8)]
    alone = [predictor.predict(image) for image in images]
    assert len({(face.box, face.valence) for prediction in alone for face in prediction.faces}) >= 8
    order = [3 * i % 8 for i in range(n)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: predictor.predict(images[i]), order))
    for i, prediction in zip(order, found, strict=True):
        assert [face.box for face in prediction.faces] == [face.box for face in alone[i].faces]
        for face, expected in zip(prediction.faces, alone[i].faces, strict=True):
            assert face.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
            assert face.valence == pytest.approx(expected.valence, abs=1e-5)
            if predictor.gradcam:
                np.testing.assert_allclose(face.heat, expected.heat, atol=1e-3)


def test_crops_are_predicted_as_the_model_alone_would(weights, tmp_path):
    faces = [draw_face(0, i, 64, grayscale=True).image for i in range(5)]
    for i, face in enumerate(faces):
        cv2.imwrite(str(tmp_path / f"{i}.png"), face)
    predictor = EmotionPredictor(weights, detector="none", precision="32-true", batch_size=2)
    predictions = list(predictor.predict_many(sorted(tmp_path.glob("*.png"))))
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = tiny_model()(images)
    found = torch.tensor([list(p.faces[0].probabilities.values()) for p in predictions])
    assert_close(found, expected.logits.softmax(1))
    valence = torch.tensor([p.faces[0].valence for p in predictions])
    assert_close(valence, expected.valence)


def test_batches_span_faces_and_images():
    backend = Counting()
    predictor = EmotionPredictor(backend=backend, detector=quarters, batch_size=8)
    predictions = list(predictor.predict_many(plain_frame(i).image for i in range(5)))
    assert backend.batches == [8, 8, 4]
    assert [round(255 * face.probabilities["happy"]) for p in predictions for face in p.faces] == [
        i for i in range(5) for _ in range(4)
    ]


def test_frames_are_not_hoarded():
    backend, taken = Counting(), []

    def frames():
        for i in range(200):
            taken.append(i)
            yield plain_frame(i)

    predictions = EmotionPredictor(backend=backend, detector=lambda image: []).predict_many(frames())
    next(predictions)
    assert len(taken) <= 32
    assert len(list(predictions)) == 199
    assert backend.batches == []


def test_landmarks_are_in_pixels_of_the_image():
    predictor = EmotionPredictor(backend=Counting(), detector=quarters)
    face = predictor.predict(np.zeros((256, 256, 3), np.uint8)).faces[3]
    assert face.landmarks.dtype == np.float32
    # The quarter's 128 px are 64 px of the crop: the center of the crop's first pixel is at 0.5 of the image's.
    np.testing.assert_allclose(face.landmarks[0], [128.5, 130.5])


def test_what_was_read_before_a_failure_counts():
    def breaks():
        yield from map(plain_frame, range(3))
        raise RuntimeError("the film tore")

    predictor = EmotionPredictor(backend=Counting(), detector=quarters)
    seen = []
    with pytest.raises(RuntimeError, match="the film tore"):
        seen.extend(p.frame.index for p in predictor.track(breaks()))
    seen = []
    try:
        for prediction in predictor.track(breaks()):
            seen.append(prediction.frame.index)
    except RuntimeError:
        pass
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_other_pixels_are_refused(image):
    with pytest.raises(ConfigError, match="expected RGB pixels"):
        EmotionPredictor(backend=Counting()).predict(image)


def test_a_broken_file_says_why(tmp_path):
    (tmp_path / "note.jpg").write_text("no image")
    with pytest.raises(UnreadableImage, match="not an image"):
        EmotionPredictor(backend=Counting()).predict(tmp_path / "note.jpg")


def test_mistakes_name_the_argument(weights):
    for options, message in [
        ({"detector": "hog"}, "detector=hog; expected one of retinaface, haar, yunet, none"),
        ({"detector": "yunet"}, "detector_path=None is not set"),
        ({"detector": "yunet", "detector_path": "nowhere.onnx"}, "detector_path=nowhere.onnx does not exist"),
        ({"detector": "yunet", "detector_path": weights}, "cannot be used by YuNet"),
        ({"batch_size": 0}, "batch_size=0; expected"),
        ({"backend": "jax"}, "backend=jax; expected"),
    ]:
        with pytest.raises(ConfigError, match=message):
            EmotionPredictor(weights, **options)
