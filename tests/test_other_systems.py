"""Windows and macOS, as far as Linux can tell: `tests/helpers/other_systems.py` refuses what they would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from src.cli.resolvers import SWEPT_KEYS, input_name, job_name, run_name
from src.data.faces.generator import draw_face
from src.utils.paths import ROOT
from tests.cli.test_cli import environment
from tests.helpers.kills import different

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what is open")

ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$')
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a training with spawned loader processes, resumed, tested and used to predict."""
    folder = tmp_path_factory.mktemp("other_systems")
    cv2.imwrite(str(folder / "face.png"), draw_face(0, 0, 64).image)
    command = [
        "-X",
        "warn_default_encoding",
        "-m",
        "tests.helpers.other_systems",
        str(folder),
        str(folder / "face.png"),
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (folder / "refused.json").write_text(done.stdout.splitlines()[-1])
    return folder


def test_all_of_it_works(made):
    for run, task in {"run": "train", "straight": "train", "eval": "eval", "predicted": "predict"}.items():
        assert json.loads((made / run / "status.json").read_text())["state"] == "finished"
        assert (made / run / f"{task}.log").stat().st_size > 0
    assert list((made / "data" / "cache" / "features").glob("*/plain.bin"))
    assert len((made / "predicted" / "predictions.csv").read_text().splitlines()) == 2


def test_no_open_file_is_replaced_or_removed(made):
    assert json.loads((made / "refused.json").read_text()) == []


def test_spawned_loader_processes_serve_what_the_training_process_would(made):
    assert different(made / "straight", made / "run") == []


def test_names_of_files_are_legal_on_windows(made, monkeypatch):
    names = {path.name for path in made.rglob("*")}
    assert len(names) > 40
    monkeypatch.setenv(SWEPT_KEYS, "data.path,optimizer.lr")
    names |= {
        job_name(2, ["+data.path='C:\\\\a?'", "optimizer.lr=1."]),
        run_name("eval", {"data": "a:b"}),
        input_name("Nul.png"),
    }
    assert [name for name in names if ILLEGAL.search(name) or DEVICES.fullmatch(name)] == []
    for path in made.rglob("*"):
        if path.is_dir():  # where `a` and `A` are one file
            inside = [p.name.lower() for p in path.iterdir()]
            assert len(set(inside)) == len(inside)
