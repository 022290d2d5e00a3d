"""Sweeps on a real Slurm, which `make test-slurm` starts."""

import json
import os
import subprocess
import sys
import time

import pytest

from src.utils.paths import ROOT
from tests.cli.test_cli import environment
from tests.engine.test_fit import assert_equal_states, learned
from tests.helpers.running import TINY, read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SLURM_CONF" not in os.environ, reason="needs a Slurm: make test-slurm"),
]


def command(data_dir, *overrides):
    return [
        sys.executable,
        "-m",
        "src.train",
        *overrides,
        *(o for o in TINY if "max_epochs" not in o),
        f"data_dir={data_dir}",
    ]


def on_slurm(sweep, *overrides):
    """Return the options of a sweep; `-m` comes before all others, or argparse does not know them."""
    launcher = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=15"]
    return ["-m", "hydra/launcher=slurm", *launcher, f"hydra.sweep.dir={sweep}", *overrides]


def states(sweep):
    return [json.loads(path.read_text())["state"] for path in sorted(sweep.glob("*/status.json"))]


def test_three_jobs(data_dir, tmp_path):
    sweep = tmp_path / "sweep"
    options = on_slurm(sweep, "seed=0,1,2", "trainer.max_epochs=1")
    done = subprocess.run(
        command(data_dir, *options), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    print(done.stderr[-3000:])
    assert done.returncode == 0
    assert states(sweep) == ["finished"] * 3
    assert (sweep / "summary.csv").read_text().count("\n") == 4
    assert (sweep / "experiment" / "best.yaml").is_file()
    logs = "".join(path.read_text() for path in (sweep / ".submitit").glob("*/*_log.out"))
    assert "Job completed successfully" in logs


def test_a_preempted_job_is_requeued_and_goes_on(data_dir, tmp_path):
    sweep, epochs = tmp_path / "sweep", ["trainer.max_epochs=60", "callbacks.early_stopping=null"]
    options = on_slurm(sweep, *epochs, "seed=0", "ckpt_path=auto")
    process = subprocess.Popen(command(data_dir, *options), cwd=ROOT, env=environment())
    try:
        run = sweep / "0"
        deadline = time.monotonic() + 120
        while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        at = read_checkpoint(run)["epoch"]
        job = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True).stdout.split()[0]
        # What Slurm sends signal_delay_s before the end of a job's time, and when it takes a machine back.
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        print(f"signalled job {job} after epoch {at}")
        assert process.wait(timeout=300) == 0
    finally:
        process.kill()
    assert at < 58
    assert states(sweep) == ["finished"]
    logs = "".join(path.read_text() for path in (sweep / ".submitit").glob("*/*_log.*"))
    print("\n".join(line for line in logs.splitlines() if "submitit" in line))
    assert "Requeued job" in logs
    straight = tmp_path / "straight"
    subprocess.run(
        command(data_dir, *epochs, f"hydra.run.dir={straight}"), cwd=ROOT, env=environment(), check=True, timeout=300
    )
    assert_equal_states(learned(read_checkpoint(straight)), learned(read_checkpoint(run)))
