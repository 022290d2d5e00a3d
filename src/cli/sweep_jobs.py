"""A job of a sweep: finished already, to be continued, or to be run in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.runs import layout
from src.runs.directory import holds_a_run, write_status
from src.runs.records import read_metrics, read_provenance, read_status
from src.utils.errors import ConfigError
from src.utils.processes import is_main_process

log = logging.getLogger(__name__)

# Overrides that say how to go on, not what to do.
RESUMING = ("sweep.resume", "ckpt_path")


def settle_job(run_dir: Path, cfg: DictConfig, overrides: list[str]) -> bool:
    """Decide what a job does with what its folder holds already.

    Args:
        run_dir: The job's folder.
        cfg: Its configuration; `ckpt_path` becomes `auto` where a broken-off job is to be continued.
        overrides: Its overrides.

    Returns:
        Whether the job has finished before and is skipped.

    Raises:
        ConfigError: If the folder holds another run.
    """
    if not holds_a_run(run_dir) or cfg.get("shard") is not None:
        return False  # a shard looks at its parts, however often it runs
    resumes = OmegaConf.select(cfg, "sweep.resume", default=False)
    state = read_status(run_dir).get("state")
    known = read_provenance(run_dir).get("overrides", [])
    same = sorted(_without_resuming(known)) == sorted(_without_resuming(overrides))
    if resumes and same:
        if state == "finished":
            log.info("Skipped, as it has finished before: %s", run_dir)
            return True
        if cfg.get("ckpt_path") is None:
            OmegaConf.update(cfg, "ckpt_path", "auto")
        return False
    if cfg.get("ckpt_path") in ("auto", "last") or not is_main_process():
        return False  # a job that the cluster has put back into its queue, or one of several processes
    remedy = "choose another hydra.sweep.dir"
    if resumes:
        remedy = f"repeat its options ({' '.join(_without_resuming(known))}), or {remedy}"
    (run_dir / layout.REFUSED).touch()
    raise ConfigError(
        f"hydra.sweep.dir: {run_dir} already holds a run (status: {state}) and is not overwritten; {remedy}."
    )


def value_of(run_dir: Path, cfg: DictConfig) -> float | None:
    """Return the metric that a finished job gives to sweepers, None if it has none."""
    value = read_metrics(run_dir).get(str(cfg.get("monitor")))
    return float(value) if isinstance(value, int | float) else None


def needs_own_process(cfg: DictConfig) -> bool:
    """Whether Lightning will start further processes for a job.

    They repeat the command line, and leave their mark in the environment: within a sweep's process, they would repeat
    the whole sweep. Where Slurm has started all processes, they are there already.
    """
    devices = OmegaConf.select(cfg, "trainer.devices", default=1)
    if OmegaConf.is_list(devices):
        devices = len(devices)
    # Where all devices are taken, their number is not known yet.
    several = devices in (-1, "auto") or devices * OmegaConf.select(cfg, "trainer.num_nodes", default=1) > 1
    return several and int(os.environ.get("SLURM_NTASKS", 1)) == 1


def run_in_own_process(run_dir: Path, cfg: DictConfig, hydra: Any) -> bool:
    """Run a job as the single run that it would be by itself.

    Args:
        run_dir: The job's folder.
        cfg: Its configuration.
        hydra: Hydra's own configuration of the job.

    Returns:
        Whether it has finished.
    """
    overrides = _without_resuming(hydra.overrides.task)
    if cfg.get("ckpt_path") is not None:
        overrides.append(f"ckpt_path={cfg.ckpt_path}")
    folders: list[Any] = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    sources = [f"--config-dir={folder}" for folder in folders]
    command = [sys.executable, "-m", f"src.{cfg.task}", *sources, *overrides, f'hydra.run.dir="{run_dir}"']
    process = subprocess.Popen(command, cwd=hydra.runtime.cwd)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code != 0 and read_status(run_dir).get("state") == "running":
        write_status(run_dir, "failed", f"its process ended with exit code {code}")
    return code == 0


def _without_resuming(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if o.split("=")[0].lstrip("+") not in RESUMING]
