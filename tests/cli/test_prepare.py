"""Tests of `python -m src.prepare`: a store with its audit, made once, from a FER2013 file with planted flaws."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.cli.validation import validate_config
from src.data.datasets.fer2013 import LABELS
from src.data.faces.generator import draw_face
from src.engine.prepare import prepare
from src.utils.errors import ConfigError
from tests.helpers.forking import run_forked
from tests.helpers.running import TINY_DATA, compose_config

Image = NDArray[np.uint8]


def _jpeg(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like Kaggle's: a leak, a conflict, a blank image and two near duplicates among clean faces."""
    faces = [draw_face(41, index, 48, grayscale=True).image[..., 0] for index in range(24)]
    rows = [(LABELS[i % 7], face, "Training") for i, face in enumerate(faces[:14])]
    rows += [(LABELS[i % 7], face, "PublicTest") for i, face in enumerate(faces[14:19])]
    rows += [(LABELS[i % 7], face, "PrivateTest") for i, face in enumerate(faces[19:])]
    rows += [("angry", faces[0], "PrivateTest"), ("sad", faces[1], "Training")]
    rows += [("happy", np.zeros_like(faces[0]), "Training")]
    rows += [
        ("fear", _jpeg(faces[2]), "PrivateTest"),
        ("happy", np.minimum(faces[3], 230) + np.uint8(20), "PublicTest"),
    ]
    path = tmp_path_factory.mktemp("source") / "fer2013.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("emotion", "pixels", "Usage"))
        writer.writerows((LABELS.index(name), " ".join(map(str, face.ravel())), usage) for name, face, usage in rows)
    return path


def _prepare(folder: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Run the entry point in a new run directory; return that and the audit it wrote."""
    run_dir = folder / f"run{len(list(folder.iterdir()))}"
    run_dir.mkdir()
    cfg = compose_config("prepare", f"data_dir={folder / 'data'}", f"run_dir={run_dir}", *overrides)
    validate_config(cfg)
    prepare(cfg)
    return run_dir, json.loads((run_dir / "audit.json").read_text())


def test_planted_flaws_are_found(tmp_path: Path, source: Path) -> None:
    run_dir, found = _prepare(tmp_path, "data=fer2013", f"data.path={source}")
    store = tmp_path / "data" / "cache" / found["store"]
    assert found["pictures"] == 29
    assert found["counts"]["train"] == {
        "neutral": 2, "happy": 3, "sad": 3, "surprise": 2, "fear": 2, "disgust": 2, "angry": 2
    }  # fmt: skip
    assert found["blank"] == ["26"]
    assert (found["exact_groups"], found["extra_copies"]) == (2, 2)
    assert found["copies"]["test"]["train"] == 1
    assert found["conflicts"] == [{"ids": ["1", "25"], "splits": ["train", "train"], "labels": ["disgust", "sad"]}]
    assert (found["training_after_dedup"], found["clean_test"]) == (14, 6)
    assert {name: n for name, n in found["near_pairs_between"].items() if n} == {"train-val": 1, "train-test": 1}
    assert found["near_examples"]["train-test"][0]["ids"] == ["2", "27"]
    assert json.loads((store / "audit.json").read_text()) == found
    assert cv2.imread(str(store / "contact_sheet.png")).shape[1] == 1370
    assert json.loads((run_dir / "provenance.json").read_text())["data"] == found["store"]


def test_second_time_only_reads(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("data=fer2013", f"data.path={source}")
    first, found = _prepare(tmp_path, *overrides)
    for name in ("src.data.audit.report.audit", "src.data.datasets.packed_images.write_store"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("made again"))
    second, again = _prepare(tmp_path, *overrides)
    assert again == found
    assert first != second


def test_image_size_does_not_change_the_store(tmp_path: Path, source: Path) -> None:
    stores = {
        _prepare(tmp_path, "data=fer2013", f"data.path={source}", f"data.image_size={size}")[1]["store"]
        for size in ("null", "128")
    }
    assert len(stores) == 1


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        _prepare(tmp_path, "data=fer2013")
    with pytest.raises(ConfigError, match=r"data\.max_bad=2"):
        _prepare(tmp_path, "data.max_bad=2")


def test_command(tmp_path: Path, data_dir: Path) -> None:
    """The default needs no download, from any folder; what it prints says where everything is."""
    options = [*TINY_DATA, f"data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run"]
    done = run_forked("src.prepare", *options, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert json.loads((tmp_path / "run" / "audit.json").read_text())["pictures"] == 26 + 14 + 21
    for text in ("Findings", "contact_sheet.png", f"Run directory: {tmp_path}/run"):
        assert text in done.stderr
