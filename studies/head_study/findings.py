"""What a study says about the claims of the student project, by rules that were fixed before it ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from src.metrics.paired import holm
from studies.head_study.conditions import Cell, Contrast, Study

Outcome = Literal["confirmed", "refuted", "left open", "not applicable"]
# Decides from contrasts and their corrected p-values.
Rule = Callable[[Sequence[Contrast], Sequence[float]], bool]

LEVEL = 0.05
# Differences of less than one percentage point are of no use to anybody.
MARGIN = 0.01
BASELINE = "linear"
ATTENTION = ("self_attention", "multihead")
# The heads that the student project compared.
ORIGINAL = ("linear", "linear_flat", "linear_bottleneck", *ATTENTION)


@dataclass(frozen=True)
class Finding:
    """A claim and what the runs say about it.

    Attributes:
        claim: The claim.
        outcome: `confirmed`, `refuted`, `left open`, or `not applicable`: a cause of what is not so.
        rule: By what it was decided.
        contrasts: The evidence.
        p_values: Their p-values, corrected for their number.
        complete: Whether all runs that the claim needs are there; without, it is left open.
    """

    claim: str
    outcome: Outcome
    rule: str
    contrasts: tuple[Contrast, ...]
    p_values: tuple[float, ...]
    complete: bool


def findings(study: Study) -> list[Finding]:
    """Judge the claims: where conditions of a study are missing, what needs them is left open."""
    gaps = [_gap(study, head) for head in ATTENTION]
    balanced = [
        _change(study, head, condition, f"gap of {head} with {what} minus without")
        for condition, what in (("weighted", "class weights"), ("sampled", "balanced sampling"))
        for head in ATTENTION
    ]
    grown = [_growth(study, head) for head in ATTENTION]
    others = [head for head in ORIGINAL if head != BASELINE]
    best = [
        study.contrast(f"{BASELINE} - {head}", [("fused", BASELINE)], [("fused", head)], "f1_weighted")
        for head in others
    ]
    judged = [
        _judge(
            "The baseline with final layer 1 (`linear`) is the best of the five heads.",
            "confirmed if it is better than each of the other four, refuted if one of them is better (weighted F1, "
            "Holm's correction, 5 %)",
            best,
            confirmed=lambda c, p: all(x.value > 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
            refuted=lambda c, p: any(x.value < 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
        ),
        _judge(
            "Attention does not help.",
            f"refuted if an attention head is better than `linear` (weighted F1, Holm's correction, 5 %), confirmed if "
            f"no interval reaches {100 * MARGIN:.0f} percentage point above it",
            gaps,
            confirmed=lambda c, p: all(x.high < MARGIN for x in c),
            refuted=_some_positive,
        ),
        _judge(
            "It does not help because the classes are unbalanced.",
            "confirmed if balancing, by either means, raises what attention gains over `linear` (macro F1, Holm's "
            f"correction, 5 %), refuted if no interval reaches {100 * MARGIN:.0f} percentage point",
            balanced,
            confirmed=_some_positive,
            refuted=lambda c, p: all(x.high < MARGIN for x in c),
        ),
        _judge(
            "It does not help because the data set is small.",
            "confirmed if twice the images raise what attention gains over `linear` (weighted F1, Holm's correction, "
            f"5 %), refuted if no interval reaches {100 * MARGIN:.0f} percentage point",
            grown,
            confirmed=_some_positive,
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
    size = _judge(
        "What attention gains, a linear head of as many parameters gains, too.",
        "refuted if an attention head is better than `linear` with as many parameters (weighted F1, Holm's correction, "
        f"5 %), confirmed if no interval reaches {100 * MARGIN:.0f} percentage point above it",
        [_beyond_size(study, head) for head in ATTENTION],
        confirmed=lambda c, p: all(x.high < MARGIN for x in c),
        refuted=_some_positive,
    )
    return [*judged, size]


def corrected(contrasts: Sequence[Contrast]) -> tuple[float, ...]:
    """Return the p-values of contrasts, corrected for their number (Holm)."""
    return tuple(float(p) for p in holm([c.p for c in contrasts])) if contrasts else ()


def _some_positive(contrasts: Sequence[Contrast], p_values: Sequence[float]) -> bool:
    return any(c.value > 0 and p < LEVEL for c, p in zip(contrasts, p_values, strict=True))


def _judge(claim: str, rule: str, wanted: Sequence[Contrast | None], *, confirmed: Rule, refuted: Rule) -> Finding:
    contrasts = [c for c in wanted if c is not None]
    complete, p = len(contrasts) == len(wanted), corrected(contrasts)
    outcome: Outcome = "left open"
    if complete and confirmed(contrasts, p):
        outcome = "confirmed"
    elif complete and refuted(contrasts, p):
        outcome = "refuted"
    return Finding(claim, outcome, rule, tuple(contrasts), p, complete)


def _gap(study: Study, head: str) -> Contrast | None:
    return study.contrast(f"{head} - {BASELINE}", [("fused", head)], [("fused", BASELINE)], "f1_weighted")


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
