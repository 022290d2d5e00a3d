"""Claims and what runs say about them, by rules that were fixed before the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from src.metrics.paired import holm
from studies.study import Contrast, Study

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


def corrected(contrasts: Sequence[Contrast]) -> tuple[float, ...]:
    """Return the p-values of contrasts, corrected for their number (Holm)."""
    return tuple(float(p) for p in holm([c.p for c in contrasts])) if contrasts else ()


def some_positive(contrasts: Sequence[Contrast], p_values: Sequence[float]) -> bool:
    """Whether one of the differences is positive, and not by chance."""
    return any(c.value > 0 and p < LEVEL for c, p in zip(contrasts, p_values, strict=True))


def judge(claim: str, rule: str, wanted: Sequence[Contrast | None], *, confirmed: Rule, refuted: Rule) -> Finding:
    """Judge a claim.

    Args:
        claim: The claim.
        rule: In words, by what it is decided.
        wanted: Its evidence; None for what has no runs, which leaves it open.
        confirmed: Decides whether it is confirmed.
        refuted: Decides, if it is not, whether it is refuted.
    """
    contrasts = [c for c in wanted if c is not None]
    complete, p = len(contrasts) == len(wanted), corrected(contrasts)
    outcome: Outcome = "left open"
    if complete and confirmed(contrasts, p):
        outcome = "confirmed"
    elif complete and refuted(contrasts, p):
        outcome = "refuted"
    return Finding(claim, outcome, rule, tuple(contrasts), p, complete)


def baseline_is_best(study: Study, condition: str) -> Finding:
    """Judge the student project's first conclusion in one condition."""
    return judge(
        "The baseline with final layer 1 (`linear`) is the best of the five heads.",
        "confirmed if it is better than each of the other four, refuted if one of them is better (weighted F1, "
        "Holm's correction, 5 %)",
        [_difference(study, condition, BASELINE, head) for head in ORIGINAL if head != BASELINE],
        confirmed=lambda c, p: all(x.value > 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
        refuted=lambda c, p: any(x.value < 0 and q < LEVEL for x, q in zip(c, p, strict=True)),
    )


def attention_does_not_help(study: Study, condition: str) -> Finding:
    """Judge its second conclusion in one condition."""
    return judge(
        "Attention does not help.",
        f"refuted if an attention head is better than `linear` (weighted F1, Holm's correction, 5 %), confirmed if "
        f"no interval reaches {100 * MARGIN:.0f} percentage point above it",
        [_difference(study, condition, head, BASELINE) for head in ATTENTION],
        confirmed=lambda c, p: all(x.high < MARGIN for x in c),
        refuted=some_positive,
    )


def _difference(study: Study, condition: str, head: str, other: str) -> Contrast | None:
    return study.contrast(f"{head} - {other}", [(condition, head)], [(condition, other)], "f1_weighted")
