"""Numbers with their intervals, as tables, pages and cards show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# What metrics may be about: a split, its images without a duplicate elsewhere, its clips as wholes.
SETS = ("val", "val_dedup", "val_clip", "test", "test_dedup", "test_clip")


def brackets(bounds: Sequence[float], form: str = ".3f") -> str:
    """Return an interval such as `[0.698, 0.727]`."""
    low, high = bounds
    return f"[{low:{form}}, {high:{form}}]"


def with_interval(
    value: float, bounds: Sequence[float] | None = None, spread: float = math.nan, *, percent: bool = False
) -> str:
    """Return a value such as `0.7130 ± 0.0040 [0.698, 0.727]`, or `71.3 ± 0.4 % [69.8, 72.7]`.

    Args:
        value: The value.
        bounds: Ends of its interval; None for none.
        spread: Standard deviation over seeds; NaN for none.
        percent: Whether to show a fraction in percent.
    """
    factor, form, bound_form, unit = (100, ".1f", ".1f", " %") if percent else (1, ".4f", ".3f", "")
    text = f"{factor * value:{form}}"
    if not math.isnan(spread):
        text += f" ± {factor * spread:{form}}"
    return text + unit + ("" if bounds is None else " " + brackets([factor * bound for bound in bounds], bound_form))


def shown_metric(metrics: Mapping[str, Any], key: str, *, percent: bool = False) -> str:
    """Return a number of `metrics.json` with its interval; a dash for one that is missing."""
    value = metrics.get(key)
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else with_interval(value, metrics.get(f"{key}_ci95"), percent=percent)


def shown_sets(metrics: Mapping[str, Any]) -> list[str]:
    """Return what numbers of `metrics.json` are about, of `SETS`; without any label, valence and arousal are known."""
    return [name for name in SETS if f"{name}/accuracy" in metrics or f"{name}/valence_ccc" in metrics]
