"""Which value of a metric is the better one: one table for all that picks a best value.

Checkpoints, early stopping, schedules and searches read it through the resolver `monitor_mode` of `conf/`, what records
and summarizes runs directly. It needs no torch, so that a configuration is checked without waiting for it; the tests
hold it against torchmetrics' `higher_is_better`.
"""

from __future__ import annotations

from typing import Literal

from src.utils.errors import ConfigError

Mode = Literal["max", "min"]

# Without the split; `f1/<class>` stands for the F1 of each class, and so on.
HIGHER_IS_BETTER = {
    "loss": False,
    "accuracy": True,
    "accuracy_single_view": True,
    "balanced_accuracy": True,
    "precision_macro": True,
    "precision_weighted": True,
    "recall_macro": True,
    "recall_weighted": True,
    "f1_macro": True,
    "f1_weighted": True,
    "f1/<class>": True,
    "kappa": True,
    "ece": False,
    "valence_ccc": True,
    "valence_pcc": True,
    "valence_rmse": False,
    "valence_sagr": True,
    "arousal_ccc": True,
    "arousal_pcc": True,
    "arousal_rmse": False,
    "arousal_sagr": True,
    "landmarks_nme": False,
    "landmarks_median/<region>": False,
}


def family(metric: str) -> str:
    """Return the entry of the table that a metric, without its split, belongs to: `f1/<class>` for `f1/happy`."""
    start = metric.partition("/")[0] + "/<"
    return next((known for known in HIGHER_IS_BETTER if known.startswith(start)), metric)


def mode_of(name: str) -> Mode | None:
    """Return which value of a metric is the best one, None for a metric that is not in the table.

    Args:
        name: With its split, such as `val/f1_macro` or `test/f1/happy`.
    """
    higher = HIGHER_IS_BETTER.get(family(name.partition("/")[2]))
    return None if higher is None else "max" if higher else "min"


def monitor_mode(monitor: str) -> Mode:
    """Return which value of a metric that a run watches is the best one.

    Args:
        monitor: Its name, such as `val/loss`.

    Raises:
        ConfigError: If the metric is not in the table.
    """
    mode = mode_of(monitor)
    if mode is None:
        known = ", ".join(f"val/{name}" for name in HIGHER_IS_BETTER if name != "accuracy_single_view")
        raise ConfigError(
            f"monitor={monitor} is no metric whose better values are known; expected one of {known}. Choose one of "
            "them, or add yours to src/metrics/directions.py."
        )
    return mode
