"""Names that `conf/` computes: folders of the project, and names of runs, jobs and sweeps that need no quoting."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.types import RunMode
from omegaconf import OmegaConf

from src.metrics.directions import mode_of
from src.utils.paths import ROOT, WORKSPACE, plain_name

SWEPT_KEYS = "EMONET_FER_SWEPT_KEYS"
SWEEP_ID = "EMONET_FER_SWEEP_ID"


def register_resolvers() -> None:
    """Make the names known to OmegaConf."""
    OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)
    OmegaConf.register_new_resolver("workspace", lambda: str(WORKSPACE), replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("job_name", job_name, replace=True)
    OmegaConf.register_new_resolver("input_name", input_name, replace=True)
    OmegaConf.register_new_resolver("shared_dir", shared_dir, replace=True)
    OmegaConf.register_new_resolver("monitor_mode", mode_of, replace=True)
    directions = {"max": "maximize", "min": "minimize"}
    OmegaConf.register_new_resolver("search_direction", lambda mode: directions.get(mode), replace=True)
    OmegaConf.register_new_resolver("sweep_id", lambda: os.environ.get(SWEEP_ID), replace=True)


def run_name(task: str, choices: Mapping[str, str | None]) -> str:
    """Return `<head>_<data>` for a training, preceded by the entry point for anything else."""
    parts = [] if task == "train" else [task]
    parts += [str(choices[group]) for group in ("head", "data") if choices.get(group)]
    return plain_name("_".join(parts))


def job_name(number: int, overrides: Sequence[str]) -> str:
    """Return `<number>_<swept overrides>` for a job of a sweep, such as `3_head-multihead_seed-1`."""
    swept = os.environ.get(SWEPT_KEYS, "").split(",")
    parts = [override for override in overrides if override.split("=")[0].lstrip("+~") in swept]
    return plain_name("_".join([str(number), *parts]))


def input_name(given: object) -> str:
    """Return a name for what is predicted: that of the file or folder, `camera_0`, or `inputs` for several."""
    if isinstance(given, int):
        return f"camera_{given}"
    return plain_name(Path(given).stem) or "input" if isinstance(given, str) else "inputs"


def shared_dir(mode: RunMode | None, sweep_dir: str, run_dir: str) -> str:
    """Return the folder that the jobs of a sweep share, or that of a single run."""
    return sweep_dir if mode == RunMode.MULTIRUN else run_dir
