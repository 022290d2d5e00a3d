"""Runs, a sweep and weights that version 0.1 has left behind go on working, and so do its commands.

`fixtures/run_0_1.tar.xz` was written by commit 82b6395, from before the move to today's packages, with the images of
`write_faces` (the sweep: synthetic faces). The values of the weights were then replaced by repeated patterns, which
compress, and that commit released them (`released/`) and tested them (`eval/`).
"""

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.runs.finished import Run
from src.utils.atomic_files import write_json
from src.utils.schemas import read_json
from src.web.models import find_models
from tests.cli.test_cli import fork
from tests.helpers.running import NO_FIGURES

ARCHIVE = Path(__file__).parent / "fixtures" / "run_0_1.tar.xz"
HOME = "/home/user"  # where the runs were, as their files say
SPLITS = {"Training": 26, "PublicTest": 14, "PrivateTest": 21}
COMMANDS = ("train", "eval", "predict", "explain", "prepare", "export")
COMMANDS += ("compare", "release", "benchmark", "app", "study")


def face(row):
    """Return the image of a row: stripes, uint8 (48, 48)."""
    y, x = np.mgrid[:48, :48]
    return ((x * (row % 7 + 1) + y * (row % 5 + 1) + row) % 256).astype(np.uint8)


def write_faces(path):
    """Write the data set of the old run, byte by byte."""
    usages = [usage for usage, n in SPLITS.items() for _ in range(n)]
    rows = [f"{i % 7},{' '.join(map(str, face(i).ravel()))},{usage}" for i, usage in enumerate(usages, start=1)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n", encoding="utf-8", newline="\n")


@pytest.fixture
def home(tmp_path):
    """The folder of the old user, at another place."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for file in tmp_path.rglob("*"):
        if file.suffix in (".json", ".yaml"):
            file.write_text(file.read_text(encoding="utf-8").replace(HOME, str(tmp_path)), encoding="utf-8")
    write_faces(tmp_path / "fer2013.csv")
    return tmp_path


def overrides(run):
    """Return the options of a run, as they were typed."""
    return [str(option) for option in read_json(run / "provenance.json")["overrides"]]


def assert_same_predictions(found, expected):
    """Compare probabilities with those of the old code."""
    names = list(Run.read(expected).class_names)
    old, new = (Run.read(path).predictions for path in (expected, found))
    assert new["id"].tolist() == old["id"].tolist()
    assert new["label"].tolist() == old["label"].tolist()
    np.testing.assert_allclose(new[names], old[names], atol=1e-4)
    assert old[names].std().max() > 0.01, "predictions that are all the same would prove nothing"


@pytest.mark.parametrize(
    "weights", ["run", "run/checkpoints/last.ckpt", "run/checkpoints/best.safetensors", "released/weights.safetensors"]
)
def test_eval_of_old_weights(home, weights):
    options = ["trainer=cpu", "trainer.precision=32-true", "logger=none", f"data_dir={home / 'data'}", *NO_FIGURES]
    if weights.startswith("released"):
        options += ["data=fer2013", f"data.path={home / 'fer2013.csv'}"]
    done = fork("eval", f"ckpt_path={home / weights}", f"hydra.run.dir={home / 'again'}", *options)
    assert done.returncode == 0, done.stderr
    old, new = (read_json(home / name / "metrics.json") for name in ("eval", "again"))
    assert old.keys() <= new.keys()
    if not weights.endswith("last.ckpt"):  # of a later epoch
        assert_same_predictions(home / "again", home / "eval")
        assert new["test/f1_macro"] == pytest.approx(old["test/f1_macro"], abs=1e-6)


def test_an_old_run_goes_on(home):
    options = [option for option in overrides(home / "run") if not option.startswith("trainer.max_epochs=")]
    before = read_json(home / "run" / "provenance.json")
    history = Run.read(home / "run").history
    resume = [f"hydra.run.dir={home / 'run'}", "ckpt_path=last", "trainer.max_epochs=3"]
    done = fork("train", *options, *resume, *NO_FIGURES)
    assert done.returncode == 0, done.stderr
    assert read_json(home / "run" / "status.json")["state"] == "finished"
    assert read_json(home / "run" / "provenance.json")["data"] == before["data"]
    assert len(history) == 2
    pd.testing.assert_frame_equal(Run.read(home / "run").history[:2], history)
    assert len(Run.read(home / "run").history) == 3


def test_predict_with_old_weights(home):
    (home / "faces").mkdir()
    old = Run.read(home / "eval").predictions
    for row in old["id"]:
        Image.fromarray(face(int(row) + 1)).save(home / "faces" / f"{row}.png")
    options = ["detector=none", "precision=32-true", "device=cpu", "annotate=false"]
    weights = home / "released" / "weights.safetensors"
    done = fork("predict", f"input={home / 'faces'}", f"ckpt_path={weights}", f"hydra.run.dir={home / 'new'}", *options)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(home / "new" / "predictions.csv")
    table["id"] = [Path(source).stem for source in table["source"]]
    names = list(Run.read(home / "eval").class_names)
    np.testing.assert_allclose(table.set_index("id").loc[old["id"], names], old[names], atol=1e-3)


def test_old_and_new_runs_are_repetitions(home):
    options = [option for option in overrides(home / "run") if not option.startswith("seed=")]
    done = fork("train", *options, "seed=1", f"hydra.run.dir={home / 'new'}", *NO_FIGURES)
    assert done.returncode == 0, done.stderr
    chosen = f"runs=[{home / 'run'},{home / 'new'}]"
    done = fork("compare", chosen, f"hydra.run.dir={home / 'comparison'}")
    assert done.returncode == 0, done.stderr
    board = pd.read_csv(home / "comparison" / "leaderboard.csv")
    assert board["runs"].tolist() == [2], f"told apart as {board['entry'].tolist()}"


def test_old_evaluations_are_compared_with_new_ones(home):
    options = ["trainer=cpu", "trainer.precision=32-true", "logger=none", f"data_dir={home / 'data'}", *NO_FIGURES]
    done = fork("eval", f"ckpt_path={home / 'run'}", f"hydra.run.dir={home / 'again'}", *options)
    assert done.returncode == 0, done.stderr
    done = fork("compare", f"runs=[{home / 'eval'},{home / 'again'}]", f"hydra.run.dir={home / 'comparison'}")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(home / "comparison" / "leaderboard.csv")["runs"].tolist() == [2]


def sweep_on(home):
    options = [option for option in overrides(home / "sweep" / "0_seed-0") if not option.startswith("seed=")]
    sweep = [f"hydra.sweep.dir={home / 'sweep'}", "sweep.resume=true", "seed=0,1"]
    return fork("train", "-m", *options, *sweep)


def test_an_old_sweep_has_finished(home):
    old = pd.read_csv(home / "sweep" / "summary.csv")
    done = sweep_on(home)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_csv(home / "sweep" / "summary.csv"), old)
    again = fork("train", f"--config-dir={home / 'sweep'}", "experiment=best", "--cfg", "job")
    assert again.returncode == 0, again.stderr
    assert "seed: 1" in again.stdout


def test_a_broken_off_job_of_an_old_sweep_says_why_it_cannot_go_on(home):
    """Synthetic faces are generated otherwise today: the job may not go on with other data in silence."""
    job = home / "sweep" / "1_seed-1"
    write_json(job / "status.json", {"state": "running"})
    (job / "metrics.json").unlink()
    done = sweep_on(home)
    assert done.returncode == 1
    reason = read_json(job / "status.json")["reason"]
    assert "was trained with data synthetic-" in reason
    assert "start afresh" in reason
    assert read_json(home / "sweep" / "0_seed-0" / "status.json")["state"] == "finished"


def test_the_demo_offers_old_runs(home):
    choices = find_models([str(home / "run"), str(home / "released" / "*")])
    files = [Path(choice.location).relative_to(home).as_posix() for choice in choices.values()]
    assert files == ["run/checkpoints/best.safetensors", "released/weights.safetensors"]


@pytest.mark.parametrize("command", COMMANDS)
def test_old_commands(command):
    done = fork(command, "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert f"task: {command}" in done.stdout
