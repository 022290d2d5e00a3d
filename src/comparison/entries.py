"""Which runs are repetitions of one another: entries of a leaderboard."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.data import options
from src.models.crops import crop_name
from src.runs.finished import Run
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# All that may differ between repetitions, with what lies below: the seed, and what cannot change the numbers. Whatever
# is not listed tells entries apart, so that a new option never pools runs that differ in it.
MAY_DIFFER = (
    *("seed", "callbacks.reseed.seed", "run_dir", "data_dir", "sweep", "logger", "plugins"),
    *("data.seed", "data.data_dir", "data._convert_", "data._recursive_"),
    *("data.num_workers", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("callbacks.last", "callbacks.lr_monitor", "callbacks.learning_curves", "callbacks.gradient_norms"),
    *("callbacks.speed", "callbacks.gradcam", "callbacks.test_table", "callbacks.progress_bar"),
)
# Older names of keys.
RENAMED = {"auxiliary_weight": "loss.auxiliary_weight"}
# Files that may lie elsewhere, under the same name.
SOURCES = tuple(f"data.{key}" for key in options.SOURCES)
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
            but those of `MAY_DIFFER`.

    Raises:
        ConfigError: If no run has such a key.
    """
    flats = [_identity(run) for run in runs]
    if by is not None:
        by = [RENAMED.get(key, key) for key in by]
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
    config = dict(run.trained_with)
    data = config.get("data")
    if isinstance(data, dict) and data.get("transform") == config.get("transform"):  # given to it by the run
        config["data"] = {key: value for key, value in data.items() if key != "transform"}
    place = str(config.get("run_dir"))
    flat = {
        key: _without_place(key, value, place)
        for key, value in _flatten(config)
        # A key that a run from before it existed lacks is null now. Data without a transform are not such a key: those
        # of the run's transform lack it here.
        if (value is not None or key == "data.transform") and not any(_belongs(key, name) for name in MAY_DIFFER)
    }
    for old, new in RENAMED.items():
        if old in flat:
            flat.setdefault(new, flat.pop(old))
    # Tested weights have nothing else to tell them apart. A training that goes on where it was is the same one.
    tested = run.trained_with is run.config and config.get("task") == "eval"
    start = flat.pop("ckpt_path", None)
    if tested or not (start is None or start in ("last", "auto") or _lies_in(str(start), place)):
        flat["ckpt_path"] = start
    if "backbone.crop" in flat:
        flat["backbone.crop"] = crop_name(str(flat["backbone.crop"]))  # of older runs a sentence
    # Of runs from before there was a choice.
    if "backbone.name" in flat:
        flat.setdefault("backbone.architecture", "emonet")
    if flat.get("head.name") == "linear":
        flat.setdefault("head.width", 128)
    return flat or {"run": run.name}


def _without_place(key: str, value: Any, run_dir: str) -> Any:
    """Return a value without where it lies: files in the run directory, the source of the data, and our own classes."""
    if not isinstance(value, str):
        return value
    if key in SOURCES:
        return Path(value).name
    if key.endswith("_target_") and value.startswith("src."):
        return value.rsplit(".", 1)[-1]
    return Path(value).relative_to(run_dir).as_posix() if key != "ckpt_path" and _lies_in(value, run_dir) else value


def _lies_in(value: str, folder: str) -> bool:
    return Path(value).is_relative_to(folder)


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
