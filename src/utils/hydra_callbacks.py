"""What happens before a run and after a sweep."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from src.utils.processes import is_main_process
from src.utils.resolvers import SWEEP_ID, SWEPT_KEYS
from src.utils.run_directory import read_json

COLUMNS = ("val/f1_macro", "test/accuracy", "test/f1_macro", "test/f1_weighted")


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
        if _holds_a_run(path) and not _resumes(config):
            _refuse(
                f"hydra.run.dir={path} already holds a run (status: {read_json(path / 'status.json').get('state')}); "
                "runs are never overwritten. Choose another folder"
                + (", or continue that run with ckpt_path=last." if _can_resume(path) else ".")
            )

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check `hydra.sweep.dir`, and tell jobs which overrides are swept."""
        path = Path(config.hydra.sweep.dir)
        _make("hydra.sweep.dir", path)
        if any(path.glob("*/status.json")):
            _refuse(f"hydra.sweep.dir={path} already holds a sweep and is not overwritten: choose another folder.")
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        swept = [o.get_key_element().lstrip("+~") for o in overrides if o.is_sweep_override()]
        swept += list(getattr(config.hydra.sweeper, "params", None) or {})
        os.environ[SWEPT_KEYS] = ",".join(swept)
        os.environ[SWEEP_ID] = path.name


class SweepSummary(Callback):
    """Ends a sweep with a table, and with exit code 1 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = sorted(sweep.glob("*/status.json"), key=lambda p: _number(p.parent.name))
        table = Table(title=f"Sweep {sweep}")
        for name in ("job", "state", *COLUMNS):
            table.add_column(name, overflow="fold")
        states = []
        for status in jobs:
            states.append(str(read_json(status).get("state")))
            metrics = read_json(status.parent / "metrics.json")
            values = [f"{metrics[name]:.4f}" if metrics.get(name) is not None else "-" for name in COLUMNS]
            table.add_row(status.parent.name, states[-1], *values)
        Console(stderr=True).print(table)
        bad = sum(state != "finished" for state in states)
        if bad:
            print(
                f"{bad} of {len(states)} jobs did not finish: see {config.hydra.job.name}.log and status.json in their "
                f"folders under {sweep}.",
                file=sys.stderr,
            )
            sys.exit(1)


def _holds_a_run(path: Path) -> bool:
    """Whether a folder has anything of a run to lose; one that was refused before it started has not."""
    kept = any((path / name).exists() for name in ("checkpoints", "metrics.json"))
    return (path / "status.json").exists() and (kept or read_json(path / "status.json").get("state") != "failed")


def _can_resume(path: Path) -> bool:
    return (path / "checkpoints" / "last.ckpt").exists()


def _number(name: str) -> int:
    head = name.split("_")[0]
    return int(head) if head.isdecimal() else -1


def _resumes(config: DictConfig) -> bool:
    location = config.get("ckpt_path")
    if not location or config.get("task") != "train":
        return False
    path = Path(str(location)).expanduser().resolve()
    here = Path(config.hydra.run.dir).resolve()
    return location == "last" or here in (path, *path.parents)


def _make(key: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(f"{key}={path} cannot be made ({error.strerror}); expected a folder that can be written.")


def _refuse(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(1)
