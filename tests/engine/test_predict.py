"""Predictions as a user orders them, on good input and bad."""

import csv
import json
import logging
import os
import re
import signal
import threading
from functools import partial

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.data.faces.generator import draw_scene
from src.data.readers.video import read_video
from src.engine.predict import predict
from src.inference.video_writer import VideoWriter
from src.utils.errors import ConfigError
from src.utils.signals import stop_requests
from tests.helpers.forking import run_forked
from tests.helpers.full_disk import fill_disk
from tests.helpers.running import compose_config
from tests.inference.conftest import SEVEN


def run(tmp_path, weights, *overrides):
    folder = tmp_path / "run"
    folder.mkdir()
    predict(compose_config("predict", f"run_dir={folder}", f"ckpt_path={weights}", "batch_size=4", *overrides))
    return folder


def items(folder):
    with (folder / "items.csv").open(newline="") as file:
        return {os.path.basename(row["source"]): row for row in csv.DictReader(file)}


def scene(faces=1, size=256, seed=31):
    return draw_scene(seed, 0, size, faces=faces)[0]


def save(path, image):
    Image.fromarray(image).save(path)


def write_film(path, n=12, size=(256, 256), rate=25):
    image = np.asarray(Image.fromarray(scene()).resize(size))
    with VideoWriter(path) as writer:
        for i in range(n):
            writer.write(np.roll(image, i, axis=1), i / rate)
    return writer.path


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


def test_images_become_tables_and_annotated_images(tmp_path, inputs, weights, caplog):
    caplog.set_level(logging.INFO)
    save(inputs / "one.png", scene())
    save(inputs / "four.png", scene(4, 512))
    folder = run(tmp_path, weights, f"input={inputs}")
    table = pd.read_csv(folder / "predictions.csv")
    assert table["source"].map(os.path.basename).value_counts().to_dict() == {"four.png": 4, "one.png": 1}
    assert np.allclose(table[list(SEVEN)].sum(axis=1), 1, atol=1e-3)
    assert (table[list(SEVEN)].idxmax(axis=1) == table["prediction"]).all()
    assert table[["x", "y", "width", "height", "score", "valence", "arousal"]].notna().all(axis=None)
    assert set(table["quality"]) == {"ok"}
    assert table[["frame", "time", "track"]].isna().all(axis=None)
    rows = items(folder)
    assert [rows[name]["status"] for name in ("one.png", "four.png")] == ["ok", "ok"]
    for row in rows.values():
        assert cv2.imread(str(folder / row["annotated"])).shape[0] >= 480
    assert "[1/2]" in caplog.text
    assert "4 faces: " in caplog.text


def test_a_video_becomes_a_table_and_an_annotated_video(tmp_path, inputs, weights, caplog):
    caplog.set_level(logging.INFO)
    film = write_film(inputs / "film")
    folder = run(tmp_path, weights, f"input={film}", "table=jsonl")
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["time"] for row in rows] == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
    assert {row["track"] for row in rows} == {1}
    annotated = list(read_video(folder / items(folder)[film.name]["annotated"]))
    assert [frame.time for frame in annotated] == pytest.approx([row["time"] for row in rows], abs=1e-3)
    assert items(folder)[film.name]["people"] == "1"
    assert "faces of 1 person" in caplog.text


def test_smoothing_follows_the_switch(tmp_path, inputs, weights):
    film = write_film(inputs / "film")
    tables = []
    for switch in ("true", "false"):
        (tmp_path / switch).mkdir()
        folder = run(tmp_path / switch, weights, f"input={film}", f"smooth={switch}", "annotate=false")
        tables.append(pd.read_csv(folder / "predictions.csv")["happy"].to_numpy())
        assert not (folder / "annotated").exists()
    smooth, plain = tables
    assert smooth[0] == pytest.approx(plain[0])
    assert smooth[-1] == pytest.approx(np.dot((0.1, 0.1, 0.15, 0.25, 0.4), plain[-5:]), abs=1e-5)


def odd_images(folder):
    """Write images of all kinds that have to work, each with how many faces it has."""
    image = scene()
    save(folder / "gray.png", cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    save(folder / "rgba.png", np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
    deep = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "deep_colors.tif"), image[..., ::-1].astype(np.uint16) * 257)
    turned = Image.fromarray(np.rot90(image))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    save(folder / "huge.jpg", cv2.resize(image, (5000, 5000)))
    save(folder / "tiny.png", np.zeros((3, 2, 3), np.uint8))
    save(folder / "nobody.png", np.full((300, 400, 3), 127, np.uint8))
    return {name: 1 for name in ("gray.png", "rgba.png", "deep.png", "deep_colors.tif", "turned.jpg", "huge.jpg")} | {
        "tiny.png": 0,
        "nobody.png": 0,
    }


def test_images_of_all_kinds(tmp_path, inputs, weights, caplog):
    expected = odd_images(inputs)
    folder = run(tmp_path, weights, f"input={inputs}")
    rows = items(folder)
    assert {name: int(row["faces"]) for name, row in rows.items()} == expected
    assert {row["status"] for row in rows.values()} == {"ok", "no face"}
    assert "nobody.png: no face found" in caplog.text
    table = pd.read_csv(folder / "predictions.csv")
    table["source"] = table["source"].map(os.path.basename)
    table = table.set_index("source")
    # The same face: gray, transparent, deep, turned.
    for name in ("rgba.png", "deep.png", "deep_colors.tif", "turned.jpg"):
        assert table.loc[name, "x"] == pytest.approx(table.loc["gray.png", "x"], abs=6)
    # The untrained network amplifies what color and JPEG change: the others have the very same pixels.
    for name, other in (("deep.png", "gray.png"), ("deep_colors.tif", "rgba.png")):
        assert table.loc[name, "happy"] == pytest.approx(table.loc[other, "happy"], abs=1e-5)
    assert table.loc["huge.jpg", "width"] == pytest.approx(table.loc["gray.png", "width"] * 5000 / 256, rel=0.1)


def test_fifty_faces(tmp_path, inputs, weights):
    save(inputs / "crowd.png", scene(50, 1600, seed=7))
    folder = run(tmp_path, weights, f"input={inputs}")
    assert len(pd.read_csv(folder / "predictions.csv")) >= 45


def test_bad_input_spoils_nothing_else(tmp_path, inputs, weights, caplog):
    caplog.set_level(logging.INFO)
    save(inputs / "a.png", scene())
    save(inputs / "z.png", scene())
    (inputs / "b.jpg").write_text("no image")
    (inputs / "c.png").write_bytes((inputs / "a.png").read_bytes()[:9000])
    (inputs / "d.mp4").write_bytes(b"no film" * 99)
    (inputs / "e.png").write_bytes(b"")
    film = write_film(inputs / "f", n=40)
    film.write_bytes(film.read_bytes()[:-3000])
    write_film(inputs / "g", n=3)
    with pytest.raises(ConfigError, match=r"5 of 8 items of input=.* could not be read, .*b.jpg \(not an image"):
        run(tmp_path, weights, f"input={inputs}")
    folder = tmp_path / "run"
    rows = items(folder)
    states = {name: row["status"] for name, row in rows.items()}
    failed = dict.fromkeys(["b.jpg", "c.png", "d.mp4", "e.png"], "failed")
    assert states == {"a.png": "ok", "z.png": "ok", film.name: "incomplete", "g.mp4": "ok", **failed}
    assert rows["c.png"]["reason"].startswith(("truncated", "broken"))
    assert rows["e.png"]["reason"] == "zero bytes"
    assert "breaks off after" in rows[film.name]["reason"]
    for name in states:
        assert sum(f"/{name}: " in line for line in caplog.messages) >= 1
    seen = pd.read_csv(folder / "predictions.csv")["source"].map(os.path.basename)
    assert set(seen) == {"a.png", "z.png", film.name, "g.mp4"}
    assert 3 < len(list(read_video(folder / rows[film.name]["annotated"]))) < 40


def test_odd_names_and_metadata_spoil_nothing_else(tmp_path, inputs, weights, capfd):
    """A name that is no text, a title that is none, a PNG without its palette, and what rich takes for markup."""
    odd = os.fsdecode(os.fsencode(inputs) + b"/caf\xe9.png")
    save(odd, scene())
    save(inputs / "[red]b[.png", scene())
    Image.fromarray(scene()).convert("P").save(inputs / "palette.png")
    content = (inputs / "palette.png").read_bytes()
    start = content.index(b"PLTE") - 4
    (inputs / "palette.png").write_bytes(content[:start] + content[start + 12 + 768 :])
    with av.open(str(inputs / "titled.mp4"), "w") as container:
        container.metadata["title"] = "A title of a film"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 256
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene())))
        container.mux(stream.encode(None))
    film = (inputs / "titled.mp4").read_bytes()
    assert b"A title of a film" in film
    (inputs / "titled.mp4").write_bytes(film.replace(b"A title of a film", b"\xff\x80title of a film"))
    with pytest.raises(ConfigError, match=r"1 of 4 items of input=.* could not be read.*palette\.png"):
        run(tmp_path, weights, f"input={inputs}")
    table = (tmp_path / "run" / "items.csv").read_bytes()
    assert b"caf\xe9.png,picture,ok" in table
    assert b"[red]b[.png,picture,ok" in table
    assert b"titled.mp4,video,ok" in table
    assert b"caf\xe9.png" in (tmp_path / "run" / "predictions.csv").read_bytes()


def test_odd_frame_sizes(tmp_path, inputs, weights):
    with av.open(str(inputs / "odd.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 251, 333, "yuv444p"
        for _ in range(3):
            frame = np.asarray(Image.fromarray(scene()).resize((251, 333)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    folder = run(tmp_path, weights, f"input={inputs}")
    assert len(list(read_video(folder / items(folder)["odd.mkv"]["annotated"]))) == 3


def test_files_of_one_name_are_both_annotated(tmp_path, inputs, weights):
    (inputs / "more").mkdir()
    for name in ("face (1).png", "face (1).jpg", "more/face (1).png"):
        save(inputs / name, scene())
    folder = run(tmp_path, weights, f"input={inputs}")
    names = sorted(path.name for path in (folder / "annotated").iterdir())
    assert names == ["face-1.jpg", "face-1_2.jpg", "face-1_3.jpg"]


def test_an_absent_camera(tmp_path, weights, capfd):
    with pytest.raises(ConfigError, match=r"camera 87 \(there is no such camera"):
        run(tmp_path, weights, "input=87")
    assert "VIDEOIO" not in capfd.readouterr().err


class Camera:
    """A camera that shows a scene, as `cv2.VideoCapture` would."""

    def __init__(self, number, n=10**9, after=None):
        self.left, self.after, self.image = n, after, np.ascontiguousarray(scene()[..., ::-1])

    def isOpened(self):
        return True

    def read(self):
        self.left -= 1
        if self.after is not None and self.left == 10**9 - 20:
            self.after()
        return (True, self.image) if self.left >= 0 else (False, None)

    def release(self):
        self.left = -1


def test_a_camera_records_for_a_while(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    folder = run(tmp_path, weights, "input=0", "max_seconds=1.5")
    row = items(folder)["camera 0"]
    assert row["status"] == "ok"
    times = [frame.time for frame in read_video(folder / row["annotated"])]
    assert len(times) == int(row["frames"])
    assert times[-1] < 1.5
    (person,) = pd.read_csv(folder / "people.csv").to_dict("records")
    assert (person["source"], person["frames"]) == ("camera 0", len(times))
    assert [path.name for path in (folder / "timelines").iterdir()] == ["camera-0.png"]
    assert times == sorted(times)


def test_ctrl_c_ends_a_recording_well(tmp_path, weights, monkeypatch):
    kill = threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera(number, after=kill.start))
    with stop_requests.handled():
        folder = run(tmp_path, weights, "input=0")
    row = items(folder)["camera 0"]
    assert row["status"] == "ok"
    assert int(row["frames"]) >= 20
    assert len(list(read_video(folder / row["annotated"]))) == int(row["frames"])


def test_a_camera_that_is_pulled_out(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Camera(number, n=5))
    monkeypatch.setattr("src.inference.camera.WAIT_SECONDS", 0)
    with pytest.raises(ConfigError, match="it stopped giving images after 5 frames"):
        run(tmp_path, weights, "input=0")
    assert items(tmp_path / "run")["camera 0"]["status"] == "incomplete"


def test_without_input_it_says_what_to_give(tmp_path, weights):
    with pytest.raises(ConfigError, match="input=null; give an image"):
        run(tmp_path, weights)


def test_grad_cam_marks_the_faces(tmp_path, inputs, weights):
    save(inputs / "a.png", scene())
    images = []
    for switch in ("true", "false"):
        (tmp_path / switch).mkdir()
        folder = run(tmp_path / switch, weights, f"input={inputs}", f"gradcam={switch}")
        images.append(cv2.imread(str(folder / "annotated" / "a.jpg")).astype(int))
    assert np.abs(images[0] - images[1]).max() > 40


@pytest.mark.parametrize("kind", ["image", "film"])
def test_a_full_disk_is_one_line_and_exit_code_1(tmp_path, inputs, weights, kind):
    if kind == "film":
        write_film(inputs / "film", n=60)
    else:
        save(inputs / "a.png", scene())
    options = [f"input={inputs}", f"ckpt_path={weights}", f"hydra.run.dir={tmp_path / 'run'}"]
    full = run_forked("src.predict", *options, env=os.environ, before=partial(fill_disk, 15_000))
    assert full.returncode == 1
    assert full.stderr.count("Error: no space is left") == 1
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "run" / "annotated").iterdir())
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_the_exit_code_tells(tmp_path, inputs, weights):
    save(inputs / "my face, (1).png", scene())
    (inputs / "broken.jpg").write_text("no image")

    def start(given, name):
        options = [f"input={given}", f"ckpt_path={weights}", "annotate=false", f"hydra.run.dir={tmp_path / name}"]
        return run_forked("src.predict", *options, env=os.environ)

    refused = start(inputs / "my face, (1).png", "refused")
    assert refused.returncode == 1
    assert f"""'input="{inputs / "my face, (1).png"}"'""" in refused.stderr
    good = start(f'"{inputs / "my face, (1).png"}"', "good")
    assert good.returncode == 0, good.stderr
    bad = start(inputs, "bad")
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    assert "1 of 2 items" in bad.stderr
    assert json.loads((tmp_path / "bad" / "status.json").read_text())["state"] == "failed"
    assert len(pd.read_csv(tmp_path / "bad" / "predictions.csv")) == 1


def test_a_part_of_a_video_and_its_people(tmp_path, inputs, weights):
    film = write_film(inputs / "film", n=25)
    folder = run(tmp_path, weights, f"input={inputs}", "start=0.2", "end=0.8", "every_n=5")
    table = pd.read_csv(folder / "predictions.csv")
    assert table["frame"].tolist() == [5, 10, 15, 20]
    assert table["time"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert items(folder)[film.name]["frames"] == "4"
    annotated = [frame.time for frame in read_video(folder / items(folder)[film.name]["annotated"])]
    assert annotated == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)
    assert [path.name for path in (folder / "timelines").iterdir()] == ["film.png"]


def summed_up(table):
    """Return what people.csv is to say of a table of faces."""
    values = [*SEVEN, "valence", "arousal"]
    by_person = table.groupby(["source", "track"])
    trusted = table[table["quality"] == "ok"].groupby(["source", "track"])
    expected = by_person["time"].agg(first="min", last="max", frames="count")
    expected["trusted_frames"] = trusted.size().reindex(expected.index, fill_value=0)
    expected["prediction"] = trusted[list(SEVEN)].mean().idxmax(axis=1)
    return expected.join(trusted[values].mean()).reset_index()


def test_the_summary_of_people_is_that_of_the_table(tmp_path, inputs, weights):
    """Two people of whom one is cut by the edge at first, and a film of one person, both in one table."""
    image = scene(2, 512)
    with VideoWriter(inputs / "two") as writer:
        for i in range(20):
            writer.write(image[:, max(0, 110 - 10 * i) :][:, :320], i / 25)
    write_film(inputs / "one", n=6)
    save(inputs / "image.png", scene())
    folder = run(tmp_path, weights, f"input={inputs}", "annotate=false", "quality.max_outside=0.1")
    assert not (folder / "timelines").exists()
    expected = summed_up(pd.read_csv(folder / "predictions.csv"))
    people = pd.read_csv(folder / "people.csv")
    assert people["source"].nunique() == 2
    assert len(people) >= 3
    assert (people["trusted_frames"] < people["frames"]).any(), "some frames are left out of the means"
    pd.testing.assert_frame_equal(people, expected, check_dtype=False, atol=3e-6, rtol=0)
    counts = {name: int(row["people"]) for name, row in items(folder).items()}
    assert counts == {"image.png": 0, **people.groupby(people["source"].map(os.path.basename)).size()}


def test_images_alone_have_no_people(tmp_path, inputs, weights):
    save(inputs / "one.png", scene())
    folder = run(tmp_path, weights, f"input={inputs}")
    assert not (folder / "people.csv").exists()
    assert not (folder / "timelines").exists()


def test_frames_far_apart_still_show_one_person(tmp_path, inputs, weights):
    film = write_film(inputs / "film", n=12, rate=2)
    folder = run(tmp_path, weights, f"input={film}", "every_n=4", "annotate=false")
    table = pd.read_csv(folder / "predictions.csv")
    assert table["time"].tolist() == [0, 2, 4]
    assert set(table["track"]) == {1}


def test_a_part_that_a_video_does_not_have(tmp_path, inputs, weights):
    write_film(inputs / "film", n=5)
    with pytest.raises(ConfigError, match=r"1 of 1 items .*it has no frame at start=3 s or later.*0\.16 s"):
        run(tmp_path, weights, f"input={inputs}", "start=3")
    assert items(tmp_path / "run")["film.mp4"]["status"] == "failed"


def test_a_long_video_says_how_long_it_still_takes(tmp_path, inputs, weights, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("src.inference.progress.NEWS_SECONDS", -1)
    run(tmp_path, weights, f"input={write_film(inputs / 'film')}", "end=0.3", "annotate=false")
    assert re.search(r"film.mp4: 5 frames so far, 0\.2 of 0\.3 s, about 0:\d\d left", caplog.text)


def test_an_end_before_the_start_is_refused(tmp_path, inputs, weights):
    save(inputs / "one.png", scene())
    with pytest.raises(ConfigError, match=r"end=2 is not after start=3; set end to"):
        run(tmp_path, weights, f"input={inputs}", "start=3", "end=2")
    assert not list((tmp_path / "run").iterdir())
