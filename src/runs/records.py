"""What the files of a run directory hold. A run may be a stranger's: see `src.utils.schemas`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from pydantic import AfterValidator, ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from src.runs import layout
from src.utils.schemas import read_json


def _intervals(metrics: dict[str, Any]) -> dict[str, Any]:
    for name, value in metrics.items():
        if isinstance(value, list) != name.endswith("_ci95") and value is not None:
            raise ValueError(f"{name}: expected {'an interval' if name.endswith('_ci95') else 'a number'}")
    return metrics


# Content of `metrics.json`: numbers, intervals, and None for what is not a number.
Interval = Annotated[list[float], Len(2, 2)]
Metrics = Annotated[dict[str, int | float | Interval | None], AfterValidator(_intervals)]


@with_config(ConfigDict(extra="allow"))
class Named(TypedDict, total=False):
    """A group of a configuration."""

    name: str | None


class Status(TypedDict, total=False):
    """Content of `status.json`."""

    state: str
    reason: str | None


@with_config(ConfigDict(extra="allow"))
class Provenance(TypedDict, total=False):
    """Content of `provenance.json`."""

    overrides: list[str]
    choices: dict[str, Any]
    git_sha: str | None
    git_dirty: bool
    data: str | None
    weights: str | None
    weights_commit: str | None
    pictures: str | None
    wandb_id: str | None
    mlflow_id: str | None
    started: str | None
    versions: dict[str, str]


@with_config(ConfigDict(extra="allow"))
class Config(TypedDict, total=False):
    """Content of `config.yaml`, as far as it is looked at; interpolations stay text."""

    task: str | None
    seed: int | None
    tta: str | None
    monitor: str | None
    ckpt_path: str | None
    run_dir: str | None
    data: Named | None
    head: Named | None
    backbone: Named | None
    trainer: dict[str, Any] | None


def read_status(run_dir: Path) -> dict[str, Any]:
    """Return what `status.json` says, {} if it is absent or broken."""
    return dict(read_json(run_dir / layout.STATUS, Status))


def read_provenance(run_dir: Path) -> dict[str, Any]:
    """Return what `provenance.json` says, {} if it is absent or broken."""
    return dict(read_json(run_dir / layout.PROVENANCE, Provenance))


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """Return what `metrics.json` says, {} if it is absent or broken."""
    return dict(read_json(run_dir / layout.METRICS, Metrics))
