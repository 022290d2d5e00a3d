"""The entry points as a user starts them: exit codes, messages, files."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from src.utils.paths import ROOT
from tests.helpers.forking import run_forked
from tests.helpers.running import TINY


def environment(**variables):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return {**kept, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", **variables}


def start(entry, *overrides, cwd=ROOT, **variables):
    command = [sys.executable, "-m", f"src.{entry}", *overrides]
    return subprocess.run(command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=300)


def fork(entry, *overrides, cwd=ROOT, **variables):
    """Start an entry point without waiting for its imports; `start` is how a user does it."""
    return run_forked(f"src.{entry}", *overrides, cwd=cwd, env=environment(**variables))


def tiny(data_dir, *overrides):
    return [*TINY, f"data_dir={data_dir}", *overrides]


MISTAKES = {
    "unknown head": (["head=cubic"], ["cubic", "multihead"]),
    "unknown data set": (["data=nothing"], ["nothing", "fer2013"]),
    "unknown option": (["trainer.max_epoch=3"], ["max_epoch"]),
    "wrong kind": (["trainer.max_epochs=two"], ["trainer.max_epochs=two", "expected"]),
    "wrong file": (["data=fer2013", "data.path=README.md"], ["data.path=README.md", "emotion,pixels,Usage"]),
    "odd size": (["data.image_size=100"], ["data.image_size=100", "multiple of 64"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_one_message(tmp_path, data_dir, mistake):
    overrides, expected = MISTAKES[mistake]
    tiny_run = [o for o in TINY if o.split("=")[0] not in [x.split("=")[0] for x in overrides]]
    if "data=fer2013" in overrides:
        tiny_run = [o for o in tiny_run if not o.startswith("data.n_")]
    done = fork("train", *tiny_run, f"data_dir={data_dir}", f"hydra.run.dir={tmp_path / 'run'}", *overrides)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()
    status = tmp_path / "run" / "status.json"
    assert not status.exists() or json.loads(status.read_text())["state"] == "failed"


def test_a_folder_that_cannot_be_made(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    done = fork("train", *tiny(data_dir), f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert done.returncode == 1
    assert "cannot be made" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_records_offline_resumes_and_is_not_overwritten(data_dir, tmp_path):
    run = tmp_path / "run"
    overrides = [o for o in tiny(data_dir, f"hydra.run.dir={run}") if not o.startswith("logger")]
    done = fork("train", *overrides, "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-3] == f"Run directory: {run}"
    synced = re.search(r"wandb sync (\S+)", lines[-2])
    assert synced
    assert list((tmp_path / synced[1]).glob("*.wandb"))
    assert "wandb leet run" in lines[-1]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    known = json.loads((run / "provenance.json").read_text())
    assert known["wandb_id"] in synced[1]
    assert (run / "train.log").stat().st_size > 0
    assert (run / "csv" / "version_0" / "metrics.csv").exists()

    again = fork("train", *overrides, "trainer.max_epochs=1")
    assert again.returncode == 1
    assert "already holds a run" in again.stderr

    before = {p.name: p.read_bytes() for p in run.glob("*.json")}
    refused = fork("train", *overrides, "trainer.max_epochs=1", "ckpt_path=last")
    assert refused.returncode == 1
    assert "already reached" in refused.stderr
    assert {p.name: p.read_bytes() for p in run.glob("*.json")} == before

    resumed = fork("train", *overrides, "trainer.max_epochs=2", "ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "provenance.json").read_text())["wandb_id"] == known["wandb_id"]
    assert (run / "csv" / "version_1" / "metrics.csv").exists()


def test_a_sweep_survives_a_failing_job(data_dir, tmp_path):
    sweep = tmp_path / "sweep"
    heads = "head=linear,linear_bottleneck"
    taps = "head.tap=emotion"  # a map of one position, which linear_bottleneck cannot read
    options = ["trainer.max_epochs=1", heads, "seed=0,1", taps, f"hydra.sweep.dir={sweep}"]
    done = fork("train", "-m", *tiny(data_dir, *options))
    assert done.returncode == 1
    names = sorted(p.parent.name for p in sweep.glob("*/status.json"))
    assert names == [
        "0_head-linear_seed-0",
        "1_head-linear_seed-1",
        "2_head-linear_bottleneck_seed-0",
        "3_head-linear_bottleneck_seed-1",
    ]
    states = [json.loads((sweep / name / "status.json").read_text()) for name in names]
    assert [s["state"] for s in states] == ["finished", "finished", "failed", "failed"]
    assert "head.tap=emotion" in states[2]["reason"]
    assert "head.tap=emotion" in (sweep / names[2] / "train.log").read_text()
    assert [(sweep / name / "metrics.json").exists() for name in names] == [True, True, False, False]
    assert "2 of 4 jobs did not finish" in done.stderr
    for name in names:
        assert name[:8] in done.stderr


def test_sigterm_marks_the_run_interrupted(data_dir, tmp_path):
    """Sent to all of its processes, as Slurm and systemd do."""
    run = tmp_path / "run"
    options = ["trainer.max_epochs=1000", "callbacks.early_stopping=null", f"hydra.run.dir={run}"]
    command = [sys.executable, "-m", "src.train", *tiny(data_dir, *options, "data.num_workers=1")]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert "ckpt_path=last" in stderr
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize("entry", ["train", "eval", "explain"])
def test_help_does_not_wait_for_torch(entry, tmp_path):
    program = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('src.{entry}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "head: " in done.stdout


def test_two_processes_test_every_image_once(data_dir, tmp_path):
    run = tmp_path / "run"
    options = [o for o in tiny(data_dir) if o != "trainer=cpu"]
    done = start(
        "train", *options, "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1", f"hydra.run.dir={run}"
    )
    assert done.returncode == 0, done.stderr
    rows = (run / "predictions.csv").read_text().splitlines()[1:]
    assert len({row.split(",")[0] for row in rows}) == len(rows) == 21
    assert json.loads((run / "metrics.json").read_text())["test/n"] == 21
    assert done.stderr.count("Run directory:") == 1
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
