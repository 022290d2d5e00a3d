import json
import os
from pathlib import Path

import pandas as pd
import pytest

from src.runs.finished import Run
from src.utils.errors import ConfigError

COLUMNS = "id,split,label,prediction,in_dedup,happy,sad\n"
ROW = "1,test,happy,sad,True,0.25,0.75\n"


def test_columns_are_found_by_name():
    columns = {"label": ["sad", "happy"], "prediction": ["sad", "sad"], "happy": [0.25, 0.4], "sad": [0.75, 0.6]}
    run = Run(Path("run"), {}, pd.DataFrame({"id": ["0", "1"], "split": "test", "in_dedup": True, **columns}))
    assert run.class_names == ("happy", "sad")
    assert run.probabilities.tolist() == [[0.25, 0.75], [0.4, 0.6]]
    assert run.indices("label", run.class_names).tolist() == [1, 0]
    confidence, correct = run.confidences()
    assert confidence.tolist() == [0.75, 0.6]
    assert correct.tolist() == [True, False]


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "metrics.json").write_text(
        json.dumps({"test/accuracy": 0.5, "test/accuracy_ci95": [0.4, 0.6], "a": None})
    )
    (tmp_path / "predictions.csv").write_text(COLUMNS + ROW)
    return tmp_path


def test_a_run_is_read_as_it_was_written(run_dir):
    run = Run.read(run_dir)
    assert run.metrics == {"test/accuracy": 0.5, "test/accuracy_ci95": [0.4, 0.6], "a": None}
    assert (run.class_names, run.name) == (("happy", "sad"), f"{run_dir.parent.name}/{run_dir.name}")


BROKEN = [
    ("metrics.json", b"{"),
    ("metrics.json", b'{"test/accuracy": "a"}'),
    ("metrics.json", b"[" * 10_000),
    ("predictions.csv", b""),
    ("predictions.csv", b"\x00\xff"),
    ("predictions.csv", b"id,split\n1,test\n"),
    ("predictions.csv", (COLUMNS + ROW.replace("0.25", "a")).encode()),
    ("predictions.csv", (COLUMNS + ROW.replace("0.25", "nan")).encode()),
    ("predictions.csv", (COLUMNS + ROW.replace("0.25", "-5")).encode()),
    ("predictions.csv", (COLUMNS + ROW.replace("True", "maybe")).encode()),
    ("predictions.csv", (COLUMNS + ROW.replace("sad", "mad")).encode()),
    ("predictions.csv", (COLUMNS + ROW.replace("happy", "")).encode()),
    ("predictions.csv", b"id,split,label,prediction,in_dedup\n1,test,happy,sad,True\n"),
]


@pytest.mark.parametrize(("name", "content"), BROKEN)
def test_broken_files_are_named(run_dir, name, content):
    (run_dir / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is broken.*Repeat that evaluation, or leave it out"):
        Run.read(run_dir)


def test_a_label_without_a_probability_is_named(run_dir):
    (run_dir / "predictions.csv").write_text(COLUMNS + ROW.replace("happy", "angry"))
    with pytest.raises(
        ConfigError, match=r"predictions\.csv has the label 'angry', which is none of the classes happy, sad"
    ):
        Run.read(run_dir).indices("label", ["happy", "sad"])


def test_pipes_are_not_waited_for(run_dir):
    for name in ("metrics.json", "config.yaml", "provenance.json"):
        (run_dir / name).unlink(missing_ok=True)
        os.mkfifo(run_dir / name)
    with pytest.raises(ConfigError, match=r"metrics\.json is broken: not a file"):
        Run.read(run_dir)
    run = Run(run_dir, {}, pd.DataFrame())
    with pytest.raises(ConfigError, match=r"config\.yaml is broken: not a file"):
        run.config  # noqa: B018
    assert run.provenance == {}
