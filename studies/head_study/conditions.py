"""The runs of a study, and differences between its heads with intervals over images and seeds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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

# The conditions, in the order of the page: folders of the study's directory, and what differs between them.
CONDITIONS = {
    "fused": "Heads on the frozen `fused` features",
    "weighted": "The same with class weights in the loss (`loss.class_weights=balanced`)",
    "sampled": "The same with every class drawn equally often (`data.sampler=balanced`)",
    "sized": "`linear` with as many parameters as an attention head (`head.width`)",
    "half": "The same with half of the training images (`data.half=first`)",
    "emotion2": "Heads on `emotion2`, its two emotion blocks trained, too",
    "crossfit": "A backbone from one half of Training, heads on the other half",
    "crossfit_seen": "The same backbone, heads on the half that it has seen",
}
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
        class_names: Classes of all runs.
        labels: Class indices, (N,).
    """

    def __init__(self, folder: Path) -> None:
        """Read the finished runs of a study.

        Args:
            folder: Its directory, with a sweep in each of `CONDITIONS`.

        Raises:
            ConfigError: If there is none, or they were evaluated on different images.
        """
        found = {
            condition: find_runs(str(folder / condition))
            for condition in CONDITIONS
            if any((folder / condition).glob(f"*/{layout.METRICS}"))
        }
        runs = [run for members in found.values() for run in members]
        if not runs:
            raise ConfigError(
                f"runs={folder} holds no finished run in {', '.join(CONDITIONS)}; expected what make study makes."
            )
        check_same_test_set(runs)
        self.cells: dict[Cell, list[Run]] = {}
        for condition, members in found.items():
            for run in sorted(members, key=lambda run: int(run.config["seed"])):
                self.cells.setdefault((condition, _head_label(run)), []).append(run)
        self.class_names = all_classes(runs)
        self.labels = runs[0].indices("label", self.class_names)
        self.split, self.data_name = runs[0].split, runs[0].data_name
        self._resampled: dict[tuple[Cell, str], Floats] = {}

    @property
    def conditions(self) -> list[str]:
        """Conditions that have runs."""
        return [condition for condition in CONDITIONS if any(cell[0] == condition for cell in self.cells)]

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


def _head_label(run: Run) -> str:
    """Return a head's name, with its width if that is not the usual one."""
    head = run.config["head"]
    width = head.get("width", BOTTLENECK)
    return str(head["name"]) if width == BOTTLENECK else f"{head['name']} ({width})"
