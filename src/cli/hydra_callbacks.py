"""What happens before a run and after a sweep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.cli.resolvers import SWEEP_ID, SWEPT_KEYS, register_resolvers
from src.metrics.directions import monitor_mode
from src.runs import layout
from src.runs.directory import hold_directory, holds_a_run
from src.runs.records import read_status
from src.utils.errors import ConfigError
from src.utils.processes import is_main_process

# Launchers start jobs in processes that know of an entry point only what its pickled functions name: this module.
register_resolvers()


class RunDirectoryGuard(Callback):
    """Refuses a folder that cannot be made, and one that already holds a run unless that run is resumed."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check `hydra.run.dir`."""
        # Its default refers to hydra's own configuration, which is set for the job only.
        HydraConfig.instance().set_config(config)
        if not is_main_process():
            return  # the main process has checked, and is writing there
        path = Path(config.hydra.run.dir)
        _make("hydra.run.dir", path)
        if not hold_directory(path):
            _refuse(f"hydra.run.dir={path} is in use by another process; wait for it, or choose another folder.")
        if holds_a_run(path) and not _resumes(config):
            _refuse(
                f"hydra.run.dir={path} already holds a run (status: {read_status(path).get('state')}); "
                "runs are never overwritten. Choose another folder"
                + (", or continue that run with ckpt_path=last." if _can_resume(path) else ".")
            )

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check `hydra.sweep.dir` and the launcher, and tell jobs which overrides are swept."""
        path = Path(config.hydra.sweep.dir)
        _make("hydra.sweep.dir", path)
        if not hold_directory(path):
            _refuse(f"hydra.sweep.dir={path} is in use by another process; wait for it, or choose another folder.")
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        sweeper = str(config.hydra.sweeper.get("_target_"))
        searches = sweeper.endswith(".ResumableSearch")
        resumes = any(o.get_key_element() == "sweep.resume" and o.value() is True for o in overrides)
        resumes = resumes or any(o.get_key_element() == "shard" for o in overrides)
        if any(path.glob(f"*/{layout.STATUS}")) and not resumes and not (searches and (path / layout.STUDY).exists()):
            _refuse(
                f"hydra.sweep.dir={path} already holds a sweep and is not overwritten: choose another folder, or go on "
                "with that sweep by sweep.resume=true."
            )
        if "optuna" in sweeper:
            _refuse(
                "hydra/sweeper=optuna without sweep=, which says what is searched and where the study is kept; "
                "expected sweep=<head>, or sweep=search with intervals of your own."
            )
        if searches:
            try:
                monitor_mode(str(config.monitor))
            except ConfigError as error:
                _refuse(str(error))
        if "SlurmLauncher" in str(config.hydra.launcher.get("_target_")):
            _require_slurm()
        for note in path.glob(f"*/{layout.REFUSED}"):
            note.unlink()
        swept = [o.get_key_element().lstrip("+~") for o in overrides if o.is_sweep_override()]
        swept += list(getattr(config.hydra.sweeper, "params", None) or {})
        os.environ[SWEPT_KEYS] = ",".join(swept)
        os.environ[SWEEP_ID] = path.name
        if searches:
            # Imported here, as the search needs an extra.
            from hydra_plugins._resumable_search import ResumableSearch

            Plugins.instance().register(ResumableSearch)


class SweepSummary(Callback):
    """Ends a sweep with a summary, and with exit code 1 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, and write it and the best job's options."""
        from src.cli.sweep_summary import summarize_sweep  # pandas would slow down every start

        sweep = Path(config.hydra.sweep.dir)
        try:
            states = summarize_sweep(sweep, str(config.hydra.job.config_name))
        except OSError as error:  # of which Hydra would make a warning
            _refuse(
                f"the summary of {sweep} cannot be written ({error.filename or sweep}: {error.strerror or error}). Its "
                "jobs are done: make room, and compare them with python -m src.compare."
            )
        bad = sum(state not in ("finished", "replaced") for state in states)
        if bad:
            print(
                f"{bad} of {len(states)} jobs did not finish: see {config.hydra.job.name}.log and status.json in their "
                f"folders under {sweep}.",
                file=sys.stderr,
            )
            sys.exit(1)


def _require_slurm() -> None:
    """Refuse to go on without a Slurm that answers."""
    remedy = "start the sweep on a login node of the cluster, or use hydra/launcher=submitit_local."
    if not shutil.which("scontrol"):
        _refuse(f"hydra/launcher=slurm, but this machine has no Slurm (no command scontrol); {remedy}")
    answer = subprocess.run(["scontrol", "ping"], capture_output=True, encoding="locale")
    if answer.returncode != 0:
        reason = (answer.stderr or answer.stdout).strip().splitlines()
        _refuse(f"hydra/launcher=slurm, but Slurm does not answer ({reason[-1] if reason else 'no reason'}); {remedy}")


def _can_resume(path: Path) -> bool:
    return (path / layout.LAST_CHECKPOINT).exists()


def _resumes(config: DictConfig) -> bool:
    if config.get("shard") is not None:
        return True
    location = config.get("ckpt_path")
    if not location or config.get("task") != "train":
        return False
    path = Path(str(location)).expanduser().resolve()
    here = Path(config.hydra.run.dir).resolve()
    return location in ("last", "auto") or here in (path, *path.parents)


def _make(key: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(f"{key}={path} cannot be made ({error.strerror}); expected a folder that can be written.")


def _refuse(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(1)
