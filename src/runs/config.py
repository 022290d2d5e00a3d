"""Configurations of runs. A run may be a stranger's: its values are taken, code is not, and nothing is computed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from src.runs import layout


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the content of `config.yaml` as it stands there, {} if there is none; interpolations stay text."""
    file = run_dir / layout.CONFIG
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False) if file.is_file() else {}
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}


def is_plain(value: Any, targets: Collection[str] = ()) -> bool:
    """Whether a value can neither name code nor compute anything.

    Args:
        value: Text without `${`, a number, a truth value, None, or lists and mappings of these. Keys that begin with an
            underscore are Hydra's, which calls what they name.
        targets: What `_target_` may name nevertheless.
    """
    if isinstance(value, dict):
        return all(_is_allowed(key, entry, targets) and is_plain(entry, targets) for key, entry in value.items())
    if isinstance(value, list):
        return all(is_plain(entry, targets) for entry in value)
    return "${" not in value if isinstance(value, str) else value is None or isinstance(value, int | float)


def _is_allowed(key: object, entry: object, targets: Collection[str]) -> bool:
    return not str(key).startswith("_") or (key == "_target_" and entry in targets)
