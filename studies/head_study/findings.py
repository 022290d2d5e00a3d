"""What a study says about the claims of the student project, by rules that were fixed before it ran."""

from __future__ import annotations

from dataclasses import replace

from studies.findings import (
    ATTENTION,
    BASELINE,
    MARGIN,
    Finding,
    attention_does_not_help,
    baseline_is_best,
    judge,
    some_positive,
)
from studies.study import Cell, Contrast, Study


def findings(study: Study) -> list[Finding]:
    """Judge the claims: where conditions of a study are missing, what needs them is left open."""
    balanced = [
        _change(study, head, condition, f"gap of {head} with {what} minus without")
        for condition, what in (("weighted", "class weights"), ("sampled", "balanced sampling"))
        for head in ATTENTION
    ]
    grown = [_growth(study, head) for head in ATTENTION]
    judged = [
        baseline_is_best(study, "fused"),
        attention_does_not_help(study, "fused"),
        judge(
            "It does not help because the classes are unbalanced.",
            "confirmed if balancing, by either means, raises what attention gains over `linear` (macro F1, Holm's "
            f"correction, 5 %), refuted if no interval reaches {100 * MARGIN:.0f} percentage point",
            balanced,
            confirmed=some_positive,
            refuted=lambda c, p: all(x.high < MARGIN for x in c),
        ),
        judge(
            "It does not help because the data set is small.",
            "confirmed if twice the images raise what attention gains over `linear` (weighted F1, Holm's correction, "
            f"5 %), refuted if no interval reaches {100 * MARGIN:.0f} percentage point",
            grown,
            confirmed=some_positive,
            refuted=lambda c, p: all(x.high < MARGIN for x in c),
        ),
    ]
    premise = judged[1]
    if premise.outcome == "refuted":
        # What does help has no reason not to.
        judged[2:] = [
            replace(cause, outcome="not applicable", rule=f"{cause.rule}; not applicable, as attention does help")
            for cause in judged[2:]
        ]
    size = judge(
        "What attention gains, a linear head of as many parameters gains, too.",
        "refuted if an attention head is better than `linear` with as many parameters (weighted F1, Holm's correction, "
        f"5 %), confirmed if no interval reaches {100 * MARGIN:.0f} percentage point above it",
        [_beyond_size(study, head) for head in ATTENTION],
        confirmed=lambda c, p: all(x.high < MARGIN for x in c),
        refuted=some_positive,
    )
    return [*judged, size]


def _beyond_size(study: Study, head: str) -> Contrast | None:
    """Compare with the head of `sized` that is as large, to a hundredth."""
    cell = ("fused", head)
    same = [
        other
        for other in study.cells
        if cell in study.cells
        and other[0] == "sized"
        and abs(study.parameters(other) - study.parameters(cell)) <= 0.01 * study.parameters(cell)
    ]
    return study.contrast(f"{head} - {same[0][1]}", [cell], same[:1], "f1_weighted") if same else None


def _change(study: Study, head: str, condition: str, name: str) -> Contrast | None:
    plus: list[Cell] = [(condition, head), ("fused", BASELINE)]
    return study.contrast(name, plus, [(condition, BASELINE), ("fused", head)], "f1_macro")


def _growth(study: Study, head: str) -> Contrast | None:
    plus: list[Cell] = [("fused", head), ("half", BASELINE)]
    minus: list[Cell] = [("fused", BASELINE), ("half", head)]
    return study.contrast(f"gap of {head} with all images minus with half", plus, minus, "f1_weighted")
