"""The files that tell what a run is and how it ended."""

from __future__ import annotations

import logging
import platform
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import BaseFileLock, Timeout
from omegaconf import OmegaConf

from src.data.options import SOURCES
from src.runs import layout
from src.runs.records import read_provenance, read_status
from src.utils.atomic_files import write_json, write_text
from src.utils.locks import new_lock
from src.utils.paths import ROOT, WORKSPACE
from src.utils.processes import is_main_process

log = logging.getLogger(__name__)

State = Literal["running", "finished", "failed", "interrupted"]
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "torchmetrics", "albumentations")


def write_status(run_dir: Path, state: State, reason: str | None = None) -> None:
    """Write `status.json` from the main process: how the run stands, since when, and why."""
    if not is_main_process():
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        write_json(run_dir / layout.STATUS, {"state": state, "reason": reason, "time": now})
    except OSError as error:
        # On a full disk, the message about it matters more than the file.
        log.error("%s cannot be written: %s", layout.STATUS, error)


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml`, with paths that mean the same from any directory.

    Args:
        run_dir: Run directory.
        config: The configuration, resolved, in plain dictionaries and lists.
    """
    if not is_main_process():
        return
    config = dict(deepcopy(config))
    data = config.get("data") or {}
    places = [(part, key) for part in (data, *(data.get("parts") or ())) for key in SOURCES]
    for part, key in [*places, (config, "ckpt_path")]:
        path = Path(part[key]).expanduser() if isinstance(part.get(key), str) else None
        if path is not None and path.exists():  # ckpt_path may be `last` or `auto`
            part[key] = str(path.absolute())
    # OmegaConf's own: it reads texts such as 1e3 as numbers, unless they are quoted.
    write_text(run_dir / layout.CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))


_held: dict[Path, BaseFileLock] = {}


def hold_directory(run_dir: Path) -> bool:
    """Reserve a run directory for this process until `release_directory` or its end; False if another one holds it.

    The system frees the reservation of a killed process. Where the file system knows no locks, nothing is reserved.
    """
    path = run_dir.resolve() / layout.LOCK
    if path in _held or not is_main_process():
        return True
    lock = new_lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError:
        return True
    _held[path] = lock
    return True


def release_directory(run_dir: Path) -> None:
    """Free a run directory that this process holds."""
    lock = _held.pop(run_dir.resolve() / layout.LOCK, None)
    if lock is not None:
        lock.release()


def holds_a_run(path: Path) -> bool:
    """Whether a folder has anything of a run to lose; one that was refused before it started has not."""
    kept = any((path / name).exists() for name in (layout.CHECKPOINTS, layout.METRICS))
    return (path / layout.STATUS).exists() and (kept or read_status(path).get("state") != "failed")


def update_provenance(run_dir: Path, **entries: Any) -> None:
    """Add entries to `provenance.json`."""
    if not is_main_process():
        return
    write_json(run_dir / layout.PROVENANCE, {**read_provenance(run_dir), **entries})


def environment(overrides: list[str], choices: dict[str, Any]) -> dict[str, Any]:
    """Return where a run comes from: code, versions, machine, command line."""
    return {
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "overrides": overrides,
        "choices": choices,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str | None:
    if ROOT != WORKSPACE:  # an installed package: a repository around it would be another one
        return None
    try:
        # Without locks: one that a full disk cuts short would stay.
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
