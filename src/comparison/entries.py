"""Which runs are repetitions of one another: entries of a leaderboard."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from src.runs.finished import Run
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# What may differ between repetitions: the seed, where files lie, and what does not change the numbers.
NOT_IDENTITY = ("seed", "run_dir", "data_dir", "ckpt_path", "plugins", "sweep", "logger", "callbacks", "hydra")
NOT_IDENTITY_KEYS = ("data.num_workers", "data.path", "trainer.enable_progress_bar", "trainer.enable_model_summary")
# Callbacks that do change the numbers.
CALLBACKS = ("callbacks.ema.", "callbacks.train_mode_once.", "callbacks.distillation.")
Flat = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """Runs with the same options but for their seeds.

    Attributes:
        name: What tells it apart from the other entries, such as `head=linear`.
        runs: Its runs.
    """

    name: str
    runs: tuple[Run, ...]


def group_runs(runs: Sequence[Run], by: Sequence[str] | None) -> list[Entry]:
    """Put repetitions together.

    Args:
        runs: Runs, at least one.
        by: Keys of the configuration whose values tell entries apart, such as `head` or `optimizer.lr`; None for all
            but the seed, paths and loggers.

    Raises:
        ConfigError: If no run has such a key.
    """
    flats = [_identity(run) for run in runs]
    if by is not None:
        for key in by:
            if not any(_belongs(name, key) for flat in flats for name in flat):
                raise ConfigError(f"by={key} is no key of these runs; expected keys such as head or optimizer.lr.")
        flats = [{k: v for k, v in flat.items() if any(_belongs(k, key) for key in by)} for flat in flats]
    groups: dict[str, list[int]] = {}
    for i, flat in enumerate(flats):
        groups.setdefault(json.dumps(flat, sort_keys=True, default=str), []).append(i)
    firsts = [flats[members[0]] for members in groups.values()]
    for members in groups.values():
        seeds = [str(runs[i].trained_with.get("seed")) for i in members]
        if len(set(seeds)) < len(seeds):
            repeated = ", ".join(runs[i].name for i in members)
            log.warning("The same options and seed more than once; they count as separate runs: %s", repeated)
    names = _names(firsts, [runs[members[0]] for members in groups.values()])
    return [Entry(name, tuple(runs[i] for i in members)) for name, members in zip(names, groups.values(), strict=True)]


def _belongs(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def _identity(run: Run) -> Flat:
    config = run.trained_with
    flat = {k: v for k, v in _flatten(config) if k.split(".")[0] not in NOT_IDENTITY and k not in NOT_IDENTITY_KEYS}
    if "backbone.name" in flat:
        flat.setdefault("backbone.architecture", "emonet")  # of runs from before there was a choice
    if config is run.config and config.get("task") == "eval":
        flat["ckpt_path"] = config.get("ckpt_path")  # all there is to tell such weights apart
    flat |= {k: v for k, v in _flatten(config) if k.startswith(CALLBACKS)}
    return flat or {"run": run.name}


def _flatten(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _names(firsts: list[Flat], runs: list[Run]) -> list[str]:
    """Return short names that tell entries apart: choices of a group by its name, other options by their values."""
    keys = list(dict.fromkeys(key for flat in firsts for key in flat))
    differing = [k for k in keys if len({json.dumps(f.get(k), default=str) for f in firsts}) > 1]
    groups = [k.removesuffix(".name") for k in differing if k.endswith(".name") and k.count(".") == 1]
    shown = []
    for key in differing:
        group = key.split(".")[0]
        if key.endswith("._target_") and any(k.startswith(f"{group}.") and k != key for k in differing):
            continue
        if group in groups and key != f"{group}.name" and not _varies_within(key, group, firsts):
            continue
        shown.append(key)
    names = []
    for flat, run in zip(firsts, runs, strict=True):
        parts = [f"{k.removesuffix('.name').removesuffix('._target_')}={_short(flat[k])}" for k in shown if k in flat]
        names.append(" ".join(parts) or _plain_name(run))
    return names if len(set(names)) == len(names) else [f"{n} ({r.name})" for n, r in zip(names, runs, strict=True)]


def _varies_within(key: str, group: str, firsts: list[Flat]) -> bool:
    """Whether an option differs between entries that have chosen the same member of its group."""
    seen: dict[str, set[str]] = {}
    for flat in firsts:
        seen.setdefault(str(flat.get(f"{group}.name")), set()).add(json.dumps(flat.get(key), default=str))
    return any(len(values) > 1 for values in seen.values())


def _short(value: Any) -> str:
    text = str(value)
    return text.rsplit(".", 1)[-1] if text.startswith(("src.", "torch.", "pytorch_lightning.")) else text


def _plain_name(run: Run) -> str:
    head = (run.trained_with.get("head") or {}).get("name")
    return f"head={head}" if head else run.name
