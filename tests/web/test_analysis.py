import re
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from src.data.faces.generator import draw_scene
from src.data.readers.frames import Frame
from src.inference.crop import crop_to_image
from src.inference.people import People
from src.inference.results import Box, FacePrediction, Prediction
from src.models.weights import save_safetensors
from src.utils.paths import ROOT
from src.web import analysis
from src.web.analysis import Analyst, Overlay
from src.web.cards import MAX_CARDS, faces_html, notice, people_html
from src.web.examples import make_examples
from src.web.models import ModelShelf
from tests.exporting.tiny import CLASSES, tiny_model
from tests.inference.conftest import tiny_model as pointless_model


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
    view = analyst.file(image, "tiny", Overlay(), silent)
    assert "1 face." in view.notice
    assert view.image.shape == (480, 480, 3)  # enlarged
    assert view.video is None
    (face,) = analyst.shelf.predictor("tiny").predict(image).faces
    assert f'class="expression">{face.expression}<' in view.faces
    assert all(f"<span>{name}</span>" in view.faces for name in CLASSES)


def _offsets(shape, crop):
    """Where the pixels of the image, enlarged by 1.5, are from the crop's center, in pixels of the original."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    center = crop.x + crop.width / 2, crop.y + crop.height / 2
    return np.stack([(columns.ravel() + 0.5) / 1.5 - center[0], (rows.ravel() + 0.5) / 1.5 - center[1]])


def test_heat_is_laid_over_the_crop_only(analyst, image):
    plain = analyst.file(image, "tiny", Overlay(), silent)
    warm = analyst.file(image, "tiny", Overlay(heat=True), silent)
    assert "Warm colors" in warm.notice
    changed = (np.abs(plain.image.astype(int) - warm.image) > 8).any(axis=2)
    assert changed.any()
    (face,) = analyst.shelf.predictor("tiny").predict(image).faces
    # The crop is turned as the face is: what lies within it, where it would be upright.
    side = face.crop.width
    x, y = np.linalg.solve(crop_to_image(face.crop, face.roll, 1)[:, :2], _offsets(changed.shape, face.crop))
    changed[(np.maximum(abs(x), abs(y)) < 0.5 + 3 / side).reshape(changed.shape)] = False
    assert not changed.any()


def test_the_largest_face_comes_first(analyst, tmp_path):
    big, small = draw_scene(7, 0, 320, expression="happy")[0], draw_scene(7, 1, 160, expression="sad")[0]
    both = np.full((320, 520, 3), 128, np.uint8)
    both[80:240, :160], both[:, 200:] = small, big
    cv2.imwrite(str(tmp_path / "two.png"), both[..., ::-1])
    predicted = analyst.shelf.predictor("tiny").predict(tmp_path / "two.png").faces
    assert [face.box.width > 100 for face in predicted] == [False, True]  # from the left to the right
    view = analyst.file(str(tmp_path / "two.png"), "tiny", Overlay(), silent)
    shown = re.findall(r'class="expression">(\w+)<', view.faces)
    assert shown == [face.expression for face in reversed(predicted)]
    table = pd.read_csv(view.table)
    assert table["source"].tolist() == ["two.png"] * 2
    assert table["prediction"].tolist() == shown
    assert table["width"].is_monotonic_decreasing


def test_landmarks_are_drawn_if_there_are_any(tmp_path, analyst, image):
    plain = analyst.file(image, "tiny", Overlay(), silent)
    dotted = analyst.file(image, "tiny", Overlay(landmarks=True), silent)
    assert "no landmarks" not in dotted.notice
    assert (plain.image != dotted.image).any(axis=2).sum() > 50
    save_safetensors(pointless_model(), tmp_path / "pointless.safetensors")
    without = Analyst(ModelShelf([str(tmp_path / "pointless.safetensors")]), tmp_path, max_seconds=1)
    assert "no landmarks" in without.file(image, "pointless", Overlay(landmarks=True), silent).notice


def test_the_portrait_shows_one_happy_face(tmp_path):
    portrait = make_examples(tmp_path)[0]
    shelf = ModelShelf([str(ROOT / "pretrained" / "emonet_fer_small.safetensors")])
    view = Analyst(shelf, tmp_path, max_seconds=1).file(
        str(portrait.file), next(iter(shelf.choices)), Overlay(), silent
    )
    assert "1 face." in view.notice
    assert 'class="expression">happy<' in view.faces


def test_onnx_files_have_no_gradients(analyst, image):
    view = analyst.file(image, "fp32", Overlay(heat=True), silent)
    assert "Grad-CAM needs a PyTorch model" in view.notice
    assert view.image is not None


def test_people_who_are_never_seen_well_have_no_numbers():
    people = People(("happy", "<i>new</i>"))
    frame = Frame("x", np.zeros((9, 9, 3), np.uint8), 0, 0.0)
    people.add(Prediction(frame, (face(reasons=("small",), track=1),)))
    html = people_html(people)
    assert "<img" not in html
    assert 'class="face unsure"' in html
    assert "unknown" in html


def test_the_camera(analyst):
    image = draw_scene(7, 0, 320, expression="happy")[0]
    assert "1 face." in analyst.frame(image, "tiny", Overlay()).notice
    assert "No face found" in analyst.frame(np.zeros((90, 90, 3), np.uint8), "tiny", Overlay(heat=True)).notice


def test_a_video_is_cut_to_its_first_seconds(analyst, tmp_path):
    (*_, example) = make_examples(tmp_path)
    view = analyst.file(str(example.file), "tiny", Overlay(), silent)
    assert "The first 1 seconds." in view.notice
    assert view.image is None
    with av.open(view.video) as container:
        frames = list(container.decode(video=0))
    assert 12 <= len(frames) <= 13
    assert 'alt="Each person' in view.faces
    assert view.faces.count("<article") == 1
    assert "0.0 to 1.0 s" in view.faces
    table = pd.read_csv(view.table)
    assert len(table) == len(frames)
    assert set(table["source"]) == {example.file.name}
    assert frames[0].width > frames[0].height


def test_a_short_video_is_whole(analyst, tmp_path):
    (*_, example) = make_examples(tmp_path)
    whole = Analyst(analyst.shelf, tmp_path, max_seconds=5)  # the video has 54 frames, the last one at 4.4 s
    assert "54 frames, 4.4 s." in whole.file(str(example.file), "tiny", Overlay(), silent).notice


def test_a_video_that_takes_too_long_is_cut(analyst, tmp_path, monkeypatch):
    (*_, example) = make_examples(tmp_path)
    monkeypatch.setattr(analysis, "MAX_SLOWNESS", 0)
    view = Analyst(analyst.shelf, tmp_path, max_seconds=5).file(str(example.file), "tiny", Overlay(), silent)
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
    view = analyst.file(str(tmp_path / "list.m3u8"), "tiny", Overlay(), silent)
    assert "list.m3u8 is neither an image nor a video that can be read" in view.notice
    assert view.video is None
    assert "1 frames" in analyst.file(str(secret), "tiny", Overlay(), silent).notice  # which can be shown


def test_a_video_that_breaks_off_is_shown_as_far_as_it_goes(analyst, tmp_path):
    (*_, example) = make_examples(tmp_path)
    content = example.file.read_bytes()
    (tmp_path / f"half{example.file.suffix}").write_bytes(content[: len(content) // 6])
    view = analyst.file(str(tmp_path / f"half{example.file.suffix}"), "tiny", Overlay(), silent)
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
    view = analyst.file(str(tmp_path / name), "tiny", Overlay(), silent)
    assert message in view.notice
    assert 'role="alert"' in view.notice
    assert (view.image, view.video, view.faces) == (None, None, "")


def test_any_failure_becomes_a_message(analyst, image, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(analyst, "_image", fail)
    assert "the terminal says why" in analyst.file(image, "tiny", Overlay(), silent).notice
    assert "oops" in caplog.text
    monkeypatch.undo()
    assert "there is no model" in analyst.file(image, "another", Overlay(), silent).notice


def face(**changes):
    fractions = dict(zip(("happy", "<i>new</i>"), (0.75, 0.25), strict=True))
    values = {"box": Box(0, 0, 9, 9), "crop": Box(0, 0, 9, 9), "probabilities": fractions, **changes}
    return FacePrediction(**values)


def test_cards_say_why_a_face_is_not_to_be_trusted():
    frame = Frame("x", np.zeros((9, 9, 3), np.uint8))
    html = faces_html(Prediction(frame, (face(reasons=("small", "blurred")), face())))
    unsure, sure = html.split("</article>")[:2]
    assert 'class="face unsure"' in unsure
    assert '<strong class="said">Too small, blurred<' in unsure
    assert "unsure" not in sure


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
    examples = make_examples(tmp_path)
    assert len(examples) == 4
    assert all(Path(path).stat().st_size > 1000 for example in examples for path in example[1:])
