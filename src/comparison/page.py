"""The page of a comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from src.comparison.leaderboard import Comparison, shown_board
from src.metrics.calibration import reliability_curve
from src.reports import page, plots
from src.reports.page import Section, render_page

# More entries than these make figures that nobody can read; tables have all of them.
MAX_DRAWN = 10
MAX_MATRICES = 4
MAX_PAIRS = 50
CURVES = ("train/loss", "val/loss", "val/f1_macro")


def comparison_page(comparison: Comparison, title: str) -> str:
    """Return the page as HTML.

    Args:
        comparison: What is compared.
        title: Its title.
    """
    return render_page(
        title,
        [
            _leaderboard(comparison),
            _entry_pairs(comparison),
            _run_pairs(comparison),
            _classes(comparison),
            _confusion(comparison),
            _calibration(comparison),
            *_learning(comparison),
            _runs(comparison),
        ],
    )


def _leaderboard(comparison: Comparison) -> Section:
    board, metric = comparison.board, comparison.metric
    seeds = [comparison.scores(entry) for entry in comparison.entries[:MAX_DRAWN]]
    top = board.head(MAX_DRAWN)
    value, low, high = (
        top[column].to_numpy(dtype=np.float64) for column in (metric, f"{metric}_low", f"{metric}_high")
    )
    drawn = plots.ranking_plot(list(top["entry"]), value, low, high, seeds, f"{metric}, {comparison.split}")
    explanation = (
        f"{len(comparison.labels):,} {comparison.split} images, the same for all. Mean ± standard deviation over "
        "seeds; in brackets, the 95 % bootstrap interval of the mean over images, for these seeds. "
        "Gray ticks: single seeds. Choosing the best of many by its test score flatters it; val/f1_macro is what to "
        "choose by."
    )
    shown = shown_board(comparison)
    return Section("Leaderboard", [page.note(explanation), page.table(shown, best=[0]), page.figure(drawn, "Scores")])


def _entry_pairs(comparison: Comparison) -> Section:
    if comparison.entry_pairs.empty:
        return Section("Differences between entries", [page.note("There is one entry only.")])
    explanation = (
        f"{comparison.metric} of a minus b, each the mean over its seeds, with a paired 95 % bootstrap interval: both "
        "are scored on the same resampled images. Intervals are not corrected for the number of pairs."
    )
    return Section("Differences between entries", [page.note(explanation), _long(comparison.entry_pairs)])


def _run_pairs(comparison: Comparison) -> Section:
    if comparison.run_pairs.empty:
        return Section("McNemar's test", [page.note("There is one run only.")])
    frame = comparison.run_pairs.drop(columns=["run_a", "run_b"])
    frame = frame.sort_values("p", kind="stable")
    frame = frame.assign(**{name: [f"{p:.2g}" for p in frame[name]] for name in ("p", "p (Holm)")})
    explanation = (
        "Is one run right about more images than the other? Two-sided McNemar test on the images that only one of them "
        f"gets right; p (Holm) is corrected for all {len(frame)} pairs. Two seeds of one entry may differ, too: a "
        "difference between entries counts if it is larger than that."
    )
    return Section("McNemar's test between runs", [page.note(explanation), _long(frame)])


def _long(frame: pd.DataFrame) -> Markup:
    if len(frame) <= MAX_PAIRS:
        return page.table(frame)
    rest = page.folded(f"{len(frame) - MAX_PAIRS} more", page.table(frame.iloc[MAX_PAIRS:]))
    return Markup("").join([page.table(frame.head(MAX_PAIRS)), rest])


def _classes(comparison: Comparison) -> Section:
    columns = [str(c) for c in comparison.board if str(c).startswith("f1/")]
    names = [c.removeprefix("f1/") for c in columns]
    table = comparison.board[["entry", *columns]].rename(columns=dict(zip(columns, names, strict=True)))
    top = comparison.board.head(MAX_DRAWN)
    drawn = plots.class_f1_plot(list(top["entry"]), names, top[columns].to_numpy(dtype=np.float64))
    return Section("F1 of each class", [page.table(table), page.figure(drawn, "F1 of each class")])


def _confusion(comparison: Comparison) -> Section:
    first, *others = comparison.entries
    best = comparison.confusion(first)
    matrices = [
        page.figure(plots.confusion_plot(comparison.class_names, best, first.name), f"Confusion of {first.name}")
    ]
    for entry in others[: MAX_MATRICES - 1]:
        difference = best - comparison.confusion(entry)
        title = f"{first.name}\nminus {entry.name}"
        drawn = plots.confusion_plot(comparison.class_names, difference, title, difference=True)
        matrices.append(page.figure(drawn, f"Confusion of {title}"))
    explanation = (
        "Fractions of each label, mean over seeds; then how the first entry differs from the next ones, in percentage "
        "points: blue on the diagonal, it is better; blue off it, it confuses the two more often."
    )
    return Section("Confusion", [page.note(explanation), page.side_by_side(*matrices)])


def _calibration(comparison: Comparison) -> Section:
    curves = {}
    for entry, row in zip(comparison.entries[:MAX_DRAWN], comparison.board.to_dict("records"), strict=False):
        pairs = [run.confidences() for run in entry.runs]
        confidence, correct = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
        curves[f"{entry.name} (ECE {row['ece']:.3f})"] = reliability_curve(confidence, correct.astype(bool))
    explanation = (
        "Fraction of right predictions among those of about equal confidence, seeds pooled; below the dashed line, "
    )
    explanation += "confidence is too high. Larger points, more images."
    return Section("Calibration", [page.note(explanation), page.figure(plots.calibration_plot(curves), "Reliability")])


def _learning(comparison: Comparison) -> list[Section]:
    histories = {entry.name: [run.history for run in entry.runs] for entry in comparison.entries[:MAX_DRAWN]}
    histories = {name: [h for h in tables if not h.empty] for name, tables in histories.items()}
    histories = {name: tables for name, tables in histories.items() if tables}
    if not histories:
        return []
    return [Section("Learning curves", [page.figure(plots.learning_plot(histories, CURVES), "Learning curves")])]


def _runs(comparison: Comparison) -> Section:
    rows = [
        {"entry": entry.name, "seed": str(run.trained_with.get("seed", "-")), "run": run.name}
        | {name: run.metrics.get(name) for name in ("val/f1_macro", "test/accuracy", "test/f1_macro", "fit/seconds")}
        | {"code": str(run.provenance.get("git_sha", "-"))[:8]}
        for entry in comparison.entries
        for run in entry.runs
    ]
    return Section("Runs", [page.table(pd.DataFrame(rows))])
