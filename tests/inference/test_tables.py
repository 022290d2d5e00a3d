"""The formats of the table of faces say the same."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from src.data.readers.frames import Frame
from src.inference import parquet
from src.inference.results import Box, FacePrediction, Prediction
from src.inference.tables import PredictionTable
from src.utils import extras
from src.utils.errors import ConfigError

CLASSES = ("happy", "sad")
OUTPUTS = ("expression", "valence_arousal")


def predictions():
    """Faces of an image, of frames, of an image whose name is no text, and an image without any."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    box = Box(1.25, 2, 30, 40)
    face = FacePrediction(box, box, {"happy": 0.75, "sad": 0.25}, valence=0.5, arousal=-0.125, score=0.9, track=3)
    plain = FacePrediction(box, box, {"happy": 0.1, "sad": 0.9}, reasons=("small", "blurred"))
    yield Prediction(Frame("a.png", pixels), (plain, plain))
    yield Prediction(Frame("film.mp4", pixels, 7, 0.28), (face,))
    yield Prediction(Frame(os.fsdecode(b"caf\xe9.png"), pixels), (plain,))
    yield Prediction(Frame("empty.png", pixels), ())


def written(path, kind):
    with PredictionTable(path / f"faces.{kind}", kind, CLASSES, OUTPUTS) as table:
        for prediction in predictions():
            table.write(prediction)
    return table.path


def test_all_formats_hold_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 3)
    table = pd.read_parquet(written(tmp_path, "parquet"))
    lines = pd.read_csv(written(tmp_path, "csv"), encoding_errors="backslashreplace")
    assert list(table) == list(lines)
    assert table["source"].tolist() == ["a.png", "a.png", "film.mp4", "caf\\xe9.png"]
    pd.testing.assert_frame_equal(table, lines, check_dtype=False)
    text = written(tmp_path, "jsonl").read_text(encoding="utf-8", errors="surrogateescape")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [os.fsencode(row.pop("source")) for row in rows][2:] == [b"film.mp4", b"caf\xe9.png"]
    pd.testing.assert_frame_equal(table.drop(columns="source"), pd.DataFrame(rows), check_dtype=False)


def test_without_faces_it_has_its_columns(tmp_path):
    for kind, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        with PredictionTable(tmp_path / "none", kind, CLASSES, OUTPUTS) as table:
            pass
        found = read(tmp_path / "none")
        assert (len(found), tuple(found)) == (0, table.columns)


def test_parquet_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"pyarrow is not installed; install the extra: pip install -e '.\[parquet\]'"
    ):
        PredictionTable(tmp_path / "faces", "parquet", CLASSES, OUTPUTS)
