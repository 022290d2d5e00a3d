"""Sweeps as a user starts them, with a job that takes no time."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from joblib import cpu_count
from omegaconf import OmegaConf

from src.cli.hydra_plugins import require_plugins
from src.runs.directory import hold_directory, release_directory
from src.utils.paths import ROOT
from tests.cli.test_cli import environment
from tests.helpers.forking import run_forked
from tests.helpers.running import compose_config

# What the search for a head has beside what suits any head.
SEARCHES = {
    **{head: [] for head in ("emonet", "linear", "linear_bottleneck", "linear_flat")},
    "multihead": ["head.n_heads", "head.embed_dim"],
    "self_attention": ["head.key_channels"],
}
SUMMARY = "src.cli.hydra_callbacks.SweepSummary"


def sweep(folder, *overrides, **variables):
    options = ["-m", f"hydra.sweep.dir={folder / 'sweep'}", *overrides]
    return run_forked("tests.helpers.toy_sweep", *options, env=environment(**variables))


def runs(folder):
    """Return the jobs that ran: name, ckpt_path, number of threads."""
    return [line.split() for line in (folder / "runs.txt").read_text().splitlines()]


def names(folder):
    return sorted(p.parent.name for p in (folder / "sweep").glob("*/status.json"))


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path, monkeypatch, capsys):
    """Hydra would make a warning of it, and exit with 0."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "summary.csv")

    monkeypatch.setattr("src.cli.sweep_summary.summarize_sweep", full)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "job": {"config_name": "train"}}})
    with pytest.raises(SystemExit) as stop:
        Callbacks(OmegaConf.create({"hydra": {"callbacks": {"a": {"_target_": SUMMARY}}}})).on_multirun_end(config)
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(f"Error: the summary of {tmp_path} cannot be written (summary.csv: No s")


def test_a_grid_summarizes_itself_and_the_best_job_can_be_repeated(tmp_path):
    done = sweep(tmp_path, "optimizer.lr=0.001,0.003", "head=linear,multihead", "transform=light", "seed=1")
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path)) == 4
    table = pd.read_csv(tmp_path / "sweep" / "summary.csv")
    assert list(table)[:5] == ["job", "state", "reason", "optimizer.lr", "head"]
    assert list(table["state"]) == ["finished"] * 4
    assert table["val/f1_macro"].max() == pytest.approx(-0.01)
    page = (tmp_path / "sweep" / "summary.html").read_text()
    assert "2_optimizer.lr-0.003_head-linear" in page
    best = yaml.safe_load((tmp_path / "sweep" / "experiment" / "best.yaml").read_text())
    assert best["seed"] == 1
    assert best.keys() <= {"defaults", "seed", "optimizer"}, "keys that link to others go on following them"
    assert {"override /transform": "light"} in best["defaults"]

    command = [f"--config-dir={tmp_path / 'sweep'}", "experiment=best", f"hydra.run.dir={tmp_path / 'again' / 'run'}"]
    again = run_forked("tests.helpers.toy_sweep", *command, env=environment())
    assert again.returncode == 0, again.stderr
    job = next(name for name in names(tmp_path) if name.startswith("2_"))
    folders = [tmp_path / "sweep" / job, tmp_path / "again" / "run"]
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    texts = [json.dumps({k: v for k, v in c.items() if k not in ("run_dir", "logger", "callbacks")}) for c in configs]
    assert texts[0] == texts[1]


def test_a_sweep_goes_on_with_what_has_not_finished(tmp_path):
    assert sweep(tmp_path, "seed=0,1", "data.draw_seed=0,1").returncode == 1
    assert [json.loads((tmp_path / "sweep" / n / "status.json").read_text())["state"] for n in names(tmp_path)] == [
        "finished",
        "failed",
        "finished",
        "failed",
    ]
    refused = sweep(tmp_path, "seed=0,1", "data.draw_seed=0,1")
    assert refused.returncode == 1
    assert "sweep.resume=true" in refused.stderr
    assert len(runs(tmp_path)) == 4
    sweep(tmp_path, "seed=0,1", "data.draw_seed=0,1", "sweep.resume=true")
    assert [name for name, *_ in runs(tmp_path)[4:]] == ["1_seed-0_data.draw_seed-1", "3_seed-1_data.draw_seed-1"]

    before = (tmp_path / "sweep" / names(tmp_path)[0] / "status.json").read_bytes()
    other = sweep(tmp_path, "seed=0,1", "data.draw_seed=0,1", "optimizer.lr=1", "sweep.resume=true")
    assert other.returncode == 1
    assert "already holds a run" in other.stderr
    assert "refused" in other.stderr
    assert (tmp_path / "sweep" / names(tmp_path)[0] / "status.json").read_bytes() == before


def test_a_broken_off_job_continues(tmp_path):
    job = tmp_path / "sweep" / "0_seed-0"
    (job / "checkpoints").mkdir(parents=True)
    (job / "status.json").write_text('{"state": "running"}')
    (job / "provenance.json").write_text('{"overrides": ["seed=0"]}')
    assert sweep(tmp_path, "seed=0,1", "sweep.resume=true").returncode == 0
    assert [run[:2] for run in runs(tmp_path)] == [["0_seed-0", "auto"], ["1_seed-1", "None"]]


@pytest.mark.parametrize(
    ("launcher", "threads"),
    [
        pytest.param(
            ["joblib", "hydra.launcher.n_jobs=2"], str(max(1, cpu_count() // 2)), marks=pytest.mark.slow, id="joblib"
        ),
        pytest.param(["submitit_local"], "3", id="submitit_local"),
    ],
)
def test_launchers(tmp_path, launcher, threads):
    options = [f"hydra/launcher={launcher[0]}", *launcher[1:], "seed=0,1"]
    variables = {} if launcher[0] == "joblib" else {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.toy_sweep", "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", *options],
        cwd=ROOT,
        env={k: v for k, v in environment(**variables).items() if variables or k != "OMP_NUM_THREADS"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["0_seed-0", "1_seed-1"]
    assert {used for _, _, used in runs(tmp_path)} == {threads}
    assert (tmp_path / "sweep" / "summary.csv").exists()


@pytest.mark.slow
def test_a_search_survives_a_kill(tmp_path):
    """The third trial kills the process, one fails: the second start runs what is missing, in folders of its own."""
    import optuna

    search = ["sweep=search", "optimizer.lr=interval(0.001,0.01)", "hydra.sweeper.n_trials=4"]
    first = sweep(tmp_path, *search, "data.draw_seed=0", "hydra.sweeper.n_trials=2")
    assert first.returncode == 0, first.stderr
    killed = sweep(tmp_path, *search, "data.draw_seed=2")
    assert killed.returncode == -signal.SIGKILL
    assert len(runs(tmp_path)) == 3
    rest = sweep(tmp_path, *search, "data.draw_seed=0")
    assert "Trial 2 was killed" in rest.stderr
    assert [name.split("_")[0] for name, *_ in runs(tmp_path)] == ["0", "1", "2", "3", "4"]
    study = optuna.load_study("toy_sweep", f"sqlite:///{tmp_path / 'sweep' / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.direction.name == "MAXIMIZE"
    assert rest.returncode == 0  # another trial has replaced the one that was killed
    table = pd.read_csv(tmp_path / "sweep" / "summary.csv")
    assert list(table["state"]) == ["finished", "finished", "replaced", "finished", "finished"]
    again = sweep(tmp_path, *search, "data.draw_seed=0")
    assert again.returncode == 0
    assert len(runs(tmp_path)) == 5, again.stderr


def test_a_search_goes_on_where_an_earlier_version_was_killed(tmp_path):
    """That one marked the trial, not the study. A seed does not suggest the first values once more."""
    import optuna

    (tmp_path / "sweep").mkdir()
    storage = f"sqlite:///{tmp_path / 'sweep' / 'study.db'}"
    study = optuna.create_study(storage, study_name="toy_sweep", direction="maximize")
    trial = study.ask({"optimizer.lr": optuna.distributions.UniformDistribution(0.001, 0.01)})
    trial.set_user_attr("killed", True)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    search = ["sweep=search", "optimizer.lr=interval(0.001,0.01)", "hydra.sweeper.sampler.seed=1"]
    for n_trials in (1, 2):
        assert sweep(tmp_path, *search, f"hydra.sweeper.n_trials={n_trials}").returncode == 0
    assert [name.split("_")[0] for name, *_ in runs(tmp_path)] == ["1", "2"]
    rates = {name.split("-", 1)[1] for name, *_ in runs(tmp_path)}
    assert len(rates) == 2


def test_a_search_without_a_finished_trial_ends_with_its_summary(tmp_path):
    search = ["sweep=search", "optimizer.lr=interval(0.001,0.01)", "hydra.sweeper.n_trials=2"]
    done = sweep(tmp_path, *search, "data.draw_seed=1")
    assert done.returncode == 1
    assert "No trial has finished" in done.stderr
    assert list(pd.read_csv(tmp_path / "sweep" / "summary.csv")["state"]) == ["failed", "failed"]


def test_a_search_of_another_space_is_refused(tmp_path):
    assert sweep(tmp_path, "sweep=search", "seed=choice(0,1)", "hydra.sweeper.n_trials=1").returncode == 0
    for space in ("choice(0,2)", "range(0,2)"):
        done = sweep(tmp_path, "sweep=search", f"seed={space}", "hydra.sweeper.n_trials=2")
        assert done.returncode == 1
        assert "has another search space" in done.stderr
        assert "Traceback" not in done.stderr
    assert len(runs(tmp_path)) == 1


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", ["rubbish", "pickled"])
def test_a_study_of_strangers_is_refused_and_runs_nothing(kind, tmp_path):
    import optuna

    (tmp_path / "sweep").mkdir()
    file = tmp_path / "sweep" / "study.db"
    if kind == "rubbish":
        file.write_bytes(b"no database" * 100)
    else:
        study = optuna.create_study(f"sqlite:///{file}", study_name="toy_sweep", direction="maximize")
        trial = study.ask({"optimizer.lr": optuna.distributions.UniformDistribution(0.001, 0.01)})
        trial.set_system_attr("cma:optimizer", pickle.dumps(Touch(tmp_path / "trace")).hex())
        study.tell(trial, 0.5)
    search = ["sweep=search", "optimizer.lr=interval(0.001,0.01)", "hydra.sweeper.n_trials=2"]
    done = sweep(tmp_path, *search, "hydra/sweeper/sampler=cmaes")
    assert done.returncode == 1
    assert f"Error: {'the study in ' if kind == 'pickled' else ''}sqlite:///" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("head", "own"), SEARCHES.items())
def test_every_head_has_a_search(head, own, tmp_path):
    cfg = compose_config("train", f"sweep={head}", f"run_dir={tmp_path}")
    assert cfg.head.name == head
    assert list(HydraConfig.get().sweeper.params) == ["optimizer.lr", "loss.label_smoothing", "transform", *own]
    assert own == [key for key in own if key.split(".")[1] in cfg.head]


def test_any_head_can_be_searched(tmp_path):
    cfg = compose_config("train", "sweep=any_head", "head=linear_flat", f"run_dir={tmp_path}")
    assert cfg.head.name == "linear_flat"
    assert list(HydraConfig.get().sweeper.params) == ["optimizer.lr", "loss.label_smoothing", "transform"]


def test_a_launcher_without_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("src.cli.hydra_plugins._is_installed", lambda module: False)
    with pytest.raises(SystemExit) as caught:
        require_plugins(["-m", "hydra/launcher=joblib"])
    assert caught.value.code == 1
    assert ".[sweep]" in capsys.readouterr().err


def test_a_sweep_directory_in_use_is_refused(tmp_path):
    (tmp_path / "sweep").mkdir()
    assert hold_directory(tmp_path / "sweep")
    try:
        done = sweep(tmp_path, "seed=0,1", "sweep.resume=true")
    finally:
        release_directory(tmp_path / "sweep")
    assert done.returncode == 1
    assert "is in use by another process" in done.stderr
    assert names(tmp_path) == []


def test_slurm_that_does_not_answer(tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'slurm_load: Unable to contact slurm controller' >&2\nexit 1\n")
    scontrol.chmod(0o755)
    done = sweep(tmp_path, "hydra/launcher=slurm", "seed=0,1", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "Slurm does not answer (slurm_load: Unable to contact slurm controller)" in done.stderr


def test_slurm_without_a_slurm(tmp_path):
    done = sweep(tmp_path, "hydra/launcher=slurm", "seed=0,1", PATH="/nowhere")
    assert done.returncode == 1
    assert "this machine has no Slurm" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_search_needs_a_space(tmp_path):
    done = sweep(tmp_path, "hydra/sweeper=optuna", "seed=0,1")
    assert done.returncode == 1
    assert "sweep=<head>" in done.stderr
