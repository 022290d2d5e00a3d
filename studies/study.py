"""Runs by condition and head, and differences between them with intervals over images and seeds."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.metrics.intervals import METRICS, confusion_matrices, interval
from src.metrics.paired import bootstrap_confusions
from src.models.heads.linear import BOTTLENECK
from src.runs import layout
from src.runs.finished import Run, all_classes, check_same_test_set, find_runs
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# A condition and a head.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Contrast:
    """A sum and difference of scores.

    Attributes:
        name: What it is, such as `multihead - linear`.
        value: Observed.
        low: Lower end of the 95 % bootstrap interval over images and seeds.
        high: Upper end.
        p: Two-sided bootstrap p of 0.
    """

    name: str
    value: float
    low: float
    high: float
    p: float


class Study:
    """Runs by condition and head, all evaluated on the same images.

    Attributes:
        cells: (condition, head) -> its runs, ordered by seed.
        titles: Condition -> what is so in it, in the order of the page; some may have no runs.
        class_names: Classes of all runs.
        labels: Class indices, (N,).
    """

    def __init__(self, cells: Mapping[Cell, Sequence[Run]], titles: Mapping[str, str]) -> None:
        """Store the runs.

        Args:
            cells: (condition, head) -> its runs, ordered by seed; their predictions are of the same images.
            titles: Condition -> what is so in it.
        """
        self.cells, self.titles = {cell: list(runs) for cell, runs in cells.items()}, titles
        runs = [run for members in self.cells.values() for run in members]
        self.class_names = all_classes(runs)
        self.labels = runs[0].indices("label", self.class_names)
        self.split, self.data_name = runs[0].split, runs[0].data_name
        self._resampled: dict[tuple[Cell, str], Floats] = {}

    @classmethod
    def read(cls, folder: Path, titles: Mapping[str, str], *, common: bool = False) -> Study:
        """Read the finished runs of a study.

        Args:
            folder: Its directory, with a sweep in a folder of each condition's name.
            titles: Condition -> what is so in it.
            common: Whether runs that were evaluated on different images are compared on those that all of them saw.

        Raises:
            ConfigError: If there is none, or they were evaluated on different images.
        """
        found = {
            condition: find_runs(str(folder / condition))
            for condition in titles
            if any((folder / condition).glob(f"*/{layout.METRICS}"))
        }
        runs = [run for members in found.values() for run in members]
        if not runs:
            raise ConfigError(
                f"runs={folder} holds no finished run in {', '.join(titles)}; expected a sweep in each, as make study "
                "and make original write them."
            )
        if common:
            shared = set.intersection(*(set(run.predictions["id"]) for run in runs))
            found = {condition: [_only(run, shared) for run in members] for condition, members in found.items()}
        else:
            check_same_test_set(runs)
        cells: dict[Cell, list[Run]] = {}
        for condition, members in found.items():
            for run in sorted(members, key=lambda run: int(run.config["seed"])):
                cells.setdefault((condition, _head_label(run)), []).append(run)
        return cls(cells, titles)

    def part(self, name: str) -> Study:
        """Return the same runs on the images of one part of combined data."""
        names = next(iter(self.cells.values()))[0].predictions["id"]
        ids = set(names[names.str.startswith(f"{name}/")])
        cells = {cell: [_only(run, ids) for run in runs] for cell, runs in self.cells.items()}
        return Study(cells, self.titles)

    @property
    def conditions(self) -> list[str]:
        """Conditions that have runs."""
        return [condition for condition in self.titles if any(cell[0] == condition for cell in self.cells)]

    def heads(self, condition: str) -> list[str]:
        """Heads of a condition, the best first by weighted F1."""
        return sorted(
            (h for a, h in self.cells if a == condition), key=lambda h: -self.score((condition, h), "f1_weighted")
        )

    def parameters(self, cell: Cell) -> int:
        """Return how many parameters a head trains."""
        return int(self.cells[cell][0].metrics.get("model/trainable_parameters") or 0)

    def seed_scores(self, cell: Cell, metric: str) -> Floats:
        """Return a metric of each run, (n_runs,)."""
        return METRICS[metric](confusion_matrices(self.labels, self._predictions(cell), len(self.class_names)))

    def score(self, cell: Cell, metric: str) -> float:
        """Return the mean of a metric over an entry's seeds."""
        return float(np.mean(self.seed_scores(cell, metric)))

    def interval(self, cell: Cell, metric: str) -> list[float]:
        """Return its 95 % bootstrap interval over images and seeds."""
        return interval(self._scores(cell, metric))

    def contrast(self, name: str, plus: Sequence[Cell], minus: Sequence[Cell], metric: str) -> Contrast | None:
        """Return the sum of the scores of some cells minus that of others; None if one has no runs."""
        if any(cell not in self.cells for cell in (*plus, *minus)):
            return None
        value = sum(self.score(c, metric) for c in plus) - sum(self.score(c, metric) for c in minus)
        resampled = sum((self._scores(c, metric) for c in plus), np.zeros(1)) - sum(
            (self._scores(c, metric) for c in minus), np.zeros(1)
        )
        low, high = interval(resampled)
        tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
        return Contrast(name, float(value), low, high, min(1.0, 2 * (tail + 1) / (len(resampled) + 1)))

    def _predictions(self, cell: Cell) -> list[Ints]:
        return [run.indices("prediction", self.class_names) for run in self.cells[cell]]

    def _scores(self, cell: Cell, metric: str) -> Floats:
        """Return the mean score on resampled images, the same for all cells, of resampled runs, (n_resamples,)."""
        key = (cell, metric)
        if key not in self._resampled:
            resampled = bootstrap_confusions(self.labels, self._predictions(cell), len(self.class_names))
            scores = METRICS[metric](resampled)
            # Runs differ from cell to cell, so each cell draws its own.
            rng = np.random.default_rng(sorted(self.cells).index(cell) + 1)
            drawn = rng.integers(scores.shape[1], size=scores.shape)
            self._resampled[key] = np.take_along_axis(scores, drawn, axis=1).mean(axis=1)
        return self._resampled[key]


def _only(run: Run, ids: Collection[str]) -> Run:
    """Return a run with the predictions of some images only."""
    return replace(run, predictions=run.predictions[run.predictions["id"].isin(ids)].reset_index(drop=True))


def _head_label(run: Run) -> str:
    """Return a head's name, with its width if that is not the usual one."""
    head = run.config["head"]
    width = head.get("width", BOTTLENECK)
    return str(head["name"]) if width == BOTTLENECK else f"{head['name']} ({width})"
