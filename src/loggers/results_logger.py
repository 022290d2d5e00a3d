"""What our loggers do beyond Lightning's: they take the results of a run, and say how to look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pytorch_lightning.loggers import Logger

from src.runs import layout

# Figures without images of the data set; those of others may show people, and so may the page that has them all.
PLAIN_FIGURES = (layout.CONFUSION_MATRIX, layout.PRECISION_RECALL, layout.LEARNING_CURVES)


@runtime_checkable
class ResultsLogger(Protocol):
    """A logger of Lightning's that is told how a run begins and ends.

    Attributes:
        takes_images: Whether it may be given images of people.
    """

    takes_images: bool

    def start_at(self, step: int) -> None:
        """Expect this step next; what an earlier, broken-off part of the run logged from there on is repeated."""

    def log_file(self, path: Path) -> None:
        """Show a figure or a page of the run directory; a kind of file that it cannot show is left out."""

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Take the numbers of `metrics.json`, after everything else."""

    def closing_lines(self) -> list[str]:
        """Return how to look at the run."""


def results_loggers(loggers: Sequence[Logger]) -> list[ResultsLogger]:
    """Return those of our kind."""
    return [logger for logger in loggers if isinstance(logger, ResultsLogger)]


def log_outcome(loggers: Sequence[Logger], run_dir: Path, results: Mapping[str, Any], *, shows_people: bool) -> None:
    """Give the figures, the report and the numbers of a run to every logger of our kind.

    Args:
        loggers: All loggers.
        run_dir: Run directory.
        results: Content of `metrics.json`.
        shows_people: Whether the images of the data set do: figures with such images are for loggers that may have
            them.
    """
    plain = [run_dir / name for name in PLAIN_FIGURES]
    files = [*sorted((run_dir / layout.FIGURES).glob("*.png")), run_dir / layout.REPORT]
    for logger in results_loggers(loggers):
        for path in files:
            if path.is_file() and (path in plain or logger.takes_images or not shows_people):
                logger.log_file(path)
        logger.log_results(results)


def final_numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of `metrics.json` one by one.

    Returns:
        `val/...`, the values of the kept epoch, as `best/val/...`, because `val/...` has a value in every epoch; an
        interval as two numbers, `/low` and `/high`; without those that are not defined.
    """
    numbers: dict[str, float] = {}
    for name, value in results.items():
        key = f"best/{name}" if name.startswith("val/") else name
        ends = dict(zip((f"{key}/low", f"{key}/high"), value, strict=True)) if isinstance(value, list) else {key: value}
        numbers |= {k: v for k, v in ends.items() if v is not None and v == v}
    return numbers


def moved_forward(metrics: Mapping[str, Any], step: int | None, last: int) -> tuple[dict[str, Any], int]:
    """Return metrics and the step to log them at, which never goes back.

    What comes from before the last step, as from a test, whose trainer counts from 0, goes to that step.

    Args:
        metrics: Values by name.
        step: Step that they come with.
        last: Last step so far.
    """
    if step is None or step < last:
        # After a fit, the kept epoch is validated once more: it has its point, where it belongs.
        metrics = {k: v for k, v in metrics.items() if k != "epoch" and not is_number_of(k, v, "val/")}
    return dict(metrics), max(step or 0, last)


def is_number_of(name: str, value: Any, prefixes: str | tuple[str, ...]) -> bool:
    """Whether a value is a number, and its name begins so."""
    return name.startswith(prefixes) and isinstance(value, int | float)
