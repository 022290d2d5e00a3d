"""The numbers of a comparison: means over seeds, intervals over images, tests between pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from src.comparison.entries import Entry
from src.metrics.calibration import expected_calibration_error
from src.metrics.intervals import METRICS, class_f1, confusion_matrices, interval, label_fractions
from src.metrics.paired import bootstrap_confusions, bootstrap_difference, holm, mcnemar
from src.reports.numbers import with_interval
from src.runs.finished import Run, all_classes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Entries tested on the same N images.

    Attributes:
        entries: Best first.
        metric: What ranks them, a name in `METRICS`.
        class_names: Classes of all runs.
        labels: Class indices, (N,).
        board: A row per entry.
        entry_pairs: A row per pair of entries: difference of `metric` with its interval.
        run_pairs: A row per pair of runs: McNemar's test and both corrections.
    """

    entries: list[Entry]
    metric: str
    class_names: tuple[str, ...]
    labels: Ints
    board: pd.DataFrame
    entry_pairs: pd.DataFrame
    run_pairs: pd.DataFrame

    @property
    def split(self) -> str:
        """Which split the images are of, `test` or `val`."""
        return self.entries[0].runs[0].split

    def scores(self, entry: Entry) -> Floats:
        """Return `metric` of each of an entry's runs, (n_runs,)."""
        return METRICS[self.metric](confusions(entry, self.labels, self.class_names))

    def confusion(self, entry: Entry) -> Floats:
        """Return the mean over an entry's runs of the confusion matrix as fractions of each label, (K, K)."""
        return label_fractions(confusions(entry, self.labels, self.class_names).sum(axis=0))


def confusions(entry: Entry, labels: Ints, names: Sequence[str]) -> Floats:
    """Return the confusion matrix of each of an entry's runs, (n_runs, K, K)."""
    return confusion_matrices(labels, predictions_of(entry, names), len(names))


def predictions_of(entry: Entry, names: Sequence[str]) -> list[Ints]:
    """Return the class indices that each of an entry's runs predicts, (N,) each."""
    return [run.indices("prediction", names) for run in entry.runs]


def compare_entries(entries: Sequence[Entry], metric: str) -> Comparison:
    """Compute everything about entries whose runs were tested on the same images.

    Args:
        entries: Entries, in any order.
        metric: What ranks them, a name in `METRICS`.
    """
    runs = [run for entry in entries for run in entry.runs]
    names = all_classes(runs)
    labels = runs[0].indices("label", names)

    def key(entry: Entry) -> float:
        return float(METRICS[metric](confusions(entry, labels, names)).mean())

    ranked = sorted(entries, key=key, reverse=True)
    board = pd.DataFrame([_row(entry, labels, names) for entry in ranked])
    board.insert(0, "rank", range(1, len(board) + 1))
    return Comparison(
        entries=ranked,
        metric=metric,
        class_names=names,
        labels=labels,
        board=board,
        entry_pairs=_entry_pairs(ranked, labels, names, metric),
        run_pairs=_run_pairs(ranked, labels, names),
    )


def _row(entry: Entry, labels: Ints, names: Sequence[str]) -> dict[str, object]:
    matrices = confusions(entry, labels, names)
    resampled = bootstrap_confusions(labels, predictions_of(entry, names), len(names))
    row: dict[str, object] = {"entry": entry.name, "runs": len(entry.runs), "n": len(labels)}
    row["val/f1_macro"] = _mean_of(entry.runs, "val/f1_macro")
    for name, metric in METRICS.items():
        values = metric(matrices)
        low, high = interval(metric(resampled).mean(axis=1))
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        row |= {name: float(np.mean(values)), f"{name}_sd": sd, f"{name}_low": low, f"{name}_high": high}
    row["ece"] = float(np.mean([expected_calibration_error(*run.confidences()) for run in entry.runs]))
    per_class = class_f1(matrices).mean(axis=0)
    return row | {f"f1/{names[i]}": float(per_class[i]) for i in sorted(set(labels.tolist()))}


def _mean_of(runs: Sequence[Run], name: str) -> float:
    values = [run.metrics.get(name) for run in runs]
    return float(np.mean([v for v in values if v is not None])) if all(v is not None for v in values) else np.nan


def _entry_pairs(entries: Sequence[Entry], labels: Ints, names: Sequence[str], metric: str) -> pd.DataFrame:
    rows = []
    for a, b in combinations(entries, 2):
        ours, theirs = (predictions_of(entry, names) for entry in (a, b))
        difference = bootstrap_difference(labels, ours, theirs, len(names), metric)
        clear = difference.low > 0 or difference.high < 0
        rows.append({"a": a.name, "b": b.name, f"{metric} a - b": difference.value})
        rows[-1] |= {"low": difference.low, "high": difference.high, "excludes 0": "yes" if clear else "no"}
    return pd.DataFrame(rows)


def _run_pairs(entries: Sequence[Entry], labels: Ints, names: Sequence[str]) -> pd.DataFrame:
    named = [(run, entry) for entry in entries for run in entry.runs]
    right = {id(run): run.indices("prediction", names) == labels for run, _ in named}
    rows = []
    for (a, entry_a), (b, entry_b) in combinations(named, 2):
        ours, theirs = right[id(a)], right[id(b)]
        row: dict[str, object] = {"a": run_label(a, entry_a), "b": run_label(b, entry_b)}
        row |= {"accuracy a - b": float(ours.mean() - theirs.mean())}
        row |= {"only a right": int((ours & ~theirs).sum()), "only b right": int((theirs & ~ours).sum())}
        rows.append({**row, "p": mcnemar(ours, theirs), "run_a": a.name, "run_b": b.name})
    frame = pd.DataFrame(rows)
    if rows:
        frame.insert(6, "p (Holm)", holm(frame["p"].to_numpy()))
    return frame


def run_label(run: Run, entry: Entry) -> str:
    """Return an entry's name with the run's seed."""
    return f"{entry.name} s{run.trained_with.get('seed', '?')}"


def shown_board(comparison: Comparison) -> pd.DataFrame:
    """Return the leaderboard as it is printed: a column per metric with mean, spread over seeds and interval."""
    rows = []
    for row in comparison.board.to_dict("records"):
        shown: dict[str, object] = {"rank": row["rank"], "entry": row["entry"], "seeds": row["runs"]}
        for name in dict.fromkeys([comparison.metric, *METRICS]):
            shown[name] = with_interval(row[name], (row[f"{name}_low"], row[f"{name}_high"]), row[f"{name}_sd"])
        rows.append({**shown, "ece": row["ece"], "val/f1_macro": row["val/f1_macro"]})
    return pd.DataFrame(rows)


def terminal_tables(comparison: Comparison) -> list[Table]:
    """Return the leaderboard and the differences to its first entry, for the terminal."""
    n = len(comparison.labels)
    board = Table(title=f"{n} {comparison.split} images: mean ± sd over seeds [95 % interval over images]")
    for name in ("", "entry", "seeds", comparison.metric, "accuracy", "val/f1_macro"):
        board.add_column(name, overflow="fold", justify="left" if name == "entry" else "right")
    for row in shown_board(comparison).to_dict("records"):
        val = "-" if np.isnan(row["val/f1_macro"]) else f"{row['val/f1_macro']:.4f}"
        numbers = (row[comparison.metric], row["accuracy"], val)
        board.add_row(str(row["rank"]), str(row["entry"]), str(row["seeds"]), *(str(v) for v in numbers))
    if comparison.entry_pairs.empty:
        return [board]
    pairs = Table(title=f"Differences in {comparison.metric} to the first [95 % interval, same images]")
    pairs.add_column("entry", overflow="fold")
    pairs.add_column("behind by", justify="right")
    first = comparison.entry_pairs[comparison.entry_pairs["a"] == comparison.entries[0].name]
    for row in first.to_dict("records"):
        pairs.add_row(str(row["b"]), with_interval(row[f"{comparison.metric} a - b"], (row["low"], row["high"])))
    return [board, pairs]
