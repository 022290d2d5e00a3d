import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.data.faces.generator import draw_scene
from src.data.readers.images import UnreadableImage
from src.inference import EmotionPredictor, Predictions
from src.inference.detection import Detection
from src.inference.image_input import as_frame
from src.inference.results import Box
from src.utils.errors import ConfigError

PIXELS = draw_scene(3, 4, 96, faces=1)[0]


def png(image):
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


FORMS = {
    "array": PIXELS,
    "bytes": png(Image.fromarray(PIXELS)),
    "bytearray": bytearray(png(Image.fromarray(PIXELS))),
    "pillow": Image.fromarray(PIXELS),
    "pillow with transparency": Image.fromarray(PIXELS).convert("RGBA"),
    "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "float tensor": torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_has_the_same_pixels(form):
    np.testing.assert_array_equal(as_frame(form).image, PIXELS)


def test_files_have_the_same_pixels(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for name in (tmp_path / "a.png", str(tmp_path / "a.png")):
        frame = as_frame(name)
        np.testing.assert_array_equal(frame.image, PIXELS)
        assert frame.source == str(tmp_path / "a.png")


def test_bgr_is_said():
    turned = np.ascontiguousarray(PIXELS[..., ::-1])
    np.testing.assert_array_equal(as_frame(turned, bgr=True).image, PIXELS)
    np.testing.assert_array_equal(as_frame(torch.from_numpy(turned).permute(2, 0, 1), bgr=True).image, PIXELS)
    np.testing.assert_array_equal(as_frame(FORMS["bytes"], bgr=True).image, PIXELS)  # a file says itself what it is


@pytest.mark.parametrize(
    "gray", [PIXELS[..., 0], torch.from_numpy(PIXELS[None, ..., 0]), Image.fromarray(PIXELS[..., 0])]
)
def test_gray_images_get_three_channels(gray):
    np.testing.assert_array_equal(as_frame(gray).image, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_a_pillow_image_is_turned_as_its_camera_says():
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = 6
    np.testing.assert_array_equal(as_frame(image).image, np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "NoneType is no image"),
        (3, "int is no image"),
        (np.zeros((4, 4, 3)), "an array of float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"an array of uint8 \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
        (torch.zeros(2, 3, 4, 4), r"predict\(list\(batch\)\)"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"a tensor of torch.uint8 \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64"),
        (torch.full((3, 4, 4), 2.0), "before any normalization"),
        (torch.full((3, 4, 4), torch.nan), "before any normalization"),
    ],
)
def test_what_is_no_image_is_refused(weights, value, words):
    with pytest.raises(ConfigError, match=words):
        as_frame(value)
    with pytest.raises(ConfigError, match=words):
        EmotionPredictor(weights, detector="none").predict(value)


def test_broken_content_is_refused():
    with pytest.raises(UnreadableImage, match="not an image"):
        as_frame(b"no image")


def whole(image):
    """Detect a face in the whole image, and another one in its middle."""
    h, w = image.shape[:2]
    return [Detection(Box(0, 0, w, h), 0.9), Detection(Box(w / 4, h / 4, w / 2, h / 2), None)]


def test_lists_and_generators_give_a_table(weights):
    predictor = EmotionPredictor(weights, detector=whole)
    for images in (list(FORMS.values()), (form for form in FORMS.values())):
        predictions = predictor.predict(images)
        assert isinstance(predictions, Predictions)
        assert len(predictions) == len(FORMS)
        table = predictions.to_frame()
        assert len(table) == 2 * len(FORMS)
        assert table["face"].tolist() == [1, 2] * len(FORMS)
        pd.testing.assert_frame_equal(table[:2], predictions[0].to_frame())
        face = predictions[0].faces[1]
        row = table.iloc[1]
        assert row["prediction"] == face.expression
        assert row[["x", "y", "width", "height"]].tolist() == [24, 24, 48, 48]
        assert row[list(face.probabilities)].tolist() == pytest.approx(list(face.probabilities.values()), abs=1e-6)
        assert row["valence"] == pytest.approx(face.valence, abs=1e-6)


def test_an_image_without_faces_has_an_empty_table(weights):
    table = EmotionPredictor(weights, detector=lambda image: []).predict(PIXELS).to_frame()
    assert len(table) == 0
    assert {"source", "face", "prediction"} <= set(table.columns)


def test_it_draws_itself(weights):
    prediction = EmotionPredictor(weights, detector=whole).predict(PIXELS)
    plain = prediction.draw(cards=False)
    assert plain.mode == "RGB"
    assert prediction.draw().width > plain.width
    scaled = np.asarray(Image.fromarray(PIXELS).resize(plain.size)).astype(int)
    assert (np.abs(np.asarray(plain) - scaled).max(axis=2) > 60).mean() > 0.005  # the boxes
