"""A configuration as users of loggers filter and compare runs by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.runs.records import read_provenance

# Parts of the configuration by which nobody filters runs.
NOT_FILTERED_BY = ("callbacks", "logger", "run_dir", "data_dir", "hydra", "sweep")


def hyperparameters(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return what a run is described by: its configuration, see `filterable`, and the version of the code."""
    origin = read_provenance(run_dir)
    described = filterable(config, origin.get("choices", {}))
    return described | {name: origin[name] for name in ("git_sha", "git_dirty") if name in origin}


def filterable(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as users filter by it.

    Args:
        config: The whole configuration.
        choices: Group -> its chosen member, such as `optimizer` -> `adam`.

    Returns:
        Without callbacks, loggers, paths and names of classes; every group has a `name`, and the experiment is one of
        the keys.
    """
    kept = {key: _without_code(value) for key, value in config.items() if key not in NOT_FILTERED_BY}
    for group, member in choices.items():
        if isinstance(kept.get(group), dict):
            kept[group].setdefault("name", member)
        elif group == "experiment":
            kept[group] = member
    return kept


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with the names that a command line has: `optimizer.lr`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _without_code(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_code(v) for k, v in value.items() if not str(k).startswith("_")}
    return value
