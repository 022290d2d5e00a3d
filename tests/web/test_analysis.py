import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from src.data.faces.generator import draw_scene
from src.inference.results import Box, FacePrediction, Frame, Prediction
from src.models.weights import save_safetensors
from src.web import analysis
from src.web.analysis import Analyst
from src.web.cards import MAX_CARDS, faces_html, notice
from src.web.examples import draw_examples
from src.web.models import ModelShelf
from tests.exporting.tiny import CLASSES, tiny_model


@pytest.fixture(scope="module")
def analyst(tmp_path_factory, exported):
    folder = tmp_path_factory.mktemp("web")
    save_safetensors(tiny_model(), folder / "tiny.safetensors")
    return Analyst(ModelShelf([str(folder / "tiny.safetensors"), str(exported.files["fp32"])]), folder, max_seconds=1)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "face.png"
    cv2.imwrite(str(path), draw_scene(7, 0, 320, expression="happy")[0][..., ::-1])
    return str(path)


def silent(fraction, text):
    assert 0 <= fraction <= 1


def test_an_image(analyst, image):
    view = analyst.file(image, "tiny", False, silent)
    assert "1 face." in view.notice
    assert view.image.shape == (480, 480, 3)  # enlarged
    assert view.video is None
    (face,) = analyst.shelf.predictor("tiny").predict(image).faces
    assert f'class="expression">{face.expression}<' in view.faces
    assert all(f"<span>{name}</span>" in view.faces for name in CLASSES)


def test_heat_is_laid_over_the_crop_only(analyst, image):
    plain = analyst.file(image, "tiny", False, silent)
    warm = analyst.file(image, "tiny", True, silent)
    assert "Warm colors" in warm.notice
    changed = (np.abs(plain.image.astype(int) - warm.image) > 8).any(axis=2)
    assert changed.any()
    (face,) = analyst.shelf.predictor("tiny").predict(image).faces
    x, y, width, height = (round(1.5 * value) for value in face.crop)
    changed[max(y - 2, 0) : y + height + 2, max(x - 2, 0) : x + width + 2] = False
    assert not changed.any()


def test_onnx_files_have_no_gradients(analyst, image):
    view = analyst.file(image, "fp32", True, silent)
    assert "Grad-CAM needs a PyTorch model" in view.notice
    assert view.image is not None


def test_the_camera(analyst):
    image = draw_scene(7, 0, 320, expression="happy")[0]
    assert "1 face." in analyst.frame(image, "tiny", False).notice
    assert "No face found" in analyst.frame(np.zeros((90, 90, 3), np.uint8), "tiny", True).notice


def test_a_video_is_cut_to_its_first_seconds(analyst, tmp_path):
    (*_, example) = draw_examples(tmp_path)
    view = analyst.file(str(example.file), "tiny", False, silent)
    assert "The first 1 seconds." in view.notice
    assert view.image is None
    with av.open(view.video) as container:
        frames = list(container.decode(video=0))
    assert 12 <= len(frames) <= 13
    assert frames[0].width > frames[0].height


def test_a_short_video_is_whole(analyst, tmp_path):
    (*_, example) = draw_examples(tmp_path)
    whole = Analyst(analyst.shelf, tmp_path, max_seconds=5)  # the video has 54 frames, the last one at 4.4 s
    assert "54 frames, 4.4 s." in whole.file(str(example.file), "tiny", False, silent).notice


def test_a_video_that_takes_too_long_is_cut(analyst, tmp_path, monkeypatch):
    (*_, example) = draw_examples(tmp_path)
    monkeypatch.setattr(analysis, "MAX_SLOWNESS", 0)
    view = Analyst(analyst.shelf, tmp_path, max_seconds=5).file(str(example.file), "tiny", False, silent)
    assert "The first 0.1 seconds: the rest would take too long." in view.notice
    with av.open(view.video) as container:
        assert len(list(container.decode(video=0))) == 1


def test_a_playlist_shows_no_other_file(analyst, tmp_path):
    secret = tmp_path / "secret.ts"
    with av.open(str(secret), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    view = analyst.file(str(tmp_path / "list.m3u8"), "tiny", False, silent)
    assert "list.m3u8 is neither an image nor a video that can be read" in view.notice
    assert view.video is None
    assert "1 frames" in analyst.file(str(secret), "tiny", False, silent).notice  # which can be shown


def test_a_video_that_breaks_off_is_shown_as_far_as_it_goes(analyst, tmp_path):
    (*_, example) = draw_examples(tmp_path)
    content = example.file.read_bytes()
    (tmp_path / f"half{example.file.suffix}").write_bytes(content[: len(content) // 6])
    view = analyst.file(str(tmp_path / f"half{example.file.suffix}"), "tiny", False, silent)
    assert 'role="alert"' in view.notice
    assert "The file is broken" in view.notice or view.video is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "empty.png cannot be shown: zero bytes."),
        ("<b>.png", b"rubbish", "&lt;b&gt;.png is neither an image nor a video that can be read. Choose"),
        ("rubbish.mp4", b"rubbish", "rubbish.mp4 is neither an image nor a video that can be read (not a video"),
    ],
)
def test_bad_files_get_a_message(analyst, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    view = analyst.file(str(tmp_path / name), "tiny", False, silent)
    assert message in view.notice
    assert 'role="alert"' in view.notice
    assert (view.image, view.video, view.faces) == (None, None, "")


def test_any_failure_becomes_a_message(analyst, image, monkeypatch, caplog):
    def fail(*arguments):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(analyst, "_image", fail)
    assert "the terminal says why" in analyst.file(image, "tiny", False, silent).notice
    assert "oops" in caplog.text
    monkeypatch.undo()
    assert "there is no model" in analyst.file(image, "another", False, silent).notice


def face(**changes):
    fractions = dict(zip(("happy", "<i>new</i>"), (0.75, 0.25), strict=True))
    values = {"box": Box(0, 0, 9, 9), "crop": Box(0, 0, 9, 9), "probabilities": fractions, **changes}
    return FacePrediction(**values)


def test_cards_show_trained_outputs_only():
    frame = Frame("x", np.zeros((9, 9, 3), np.uint8))
    plain = faces_html(Prediction(frame, (face(),)))
    assert "75%" in plain
    assert "width:25.0%" in plain
    assert "circumplex" not in plain
    assert "&lt;i&gt;new&lt;/i&gt;" in plain
    assert "<i>new" not in plain
    affect = faces_html(Prediction(frame, (face(valence=-3.0, arousal=4.0),)))
    assert "valence \N{MINUS SIGN}3.00, arousal +4.00" in affect
    cx, cy = map(float, re.search(r'cx="(.+?)" cy="(.+?)"', affect).groups())
    assert (cx, cy) == (-36.0, -48.0)  # on the edge of a circle of radius 60


def test_a_crowd_is_counted():
    frame = Frame("x", np.zeros((9, 9, 3), np.uint8))
    html = faces_html(Prediction(frame, tuple(face() for _ in range(MAX_CARDS + 4))))
    assert html.count("<article") == MAX_CARDS
    assert "and 4 more" in html


def test_notices_are_plain_text():
    assert notice("<b>", "alert") == '<div role="alert" class="notice alert">&lt;b&gt;</div>'
    assert notice("") == ""


def test_examples_are_files(tmp_path):
    examples = draw_examples(tmp_path)
    assert len(examples) == 4
    assert all(Path(path).stat().st_size > 1000 for example in examples for path in example[1:])
