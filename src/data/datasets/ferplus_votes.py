"""The votes of FER+ and what they decide, by the rules of its authors (github.com/microsoft/FERPlus)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.datasets.fer2013 import SPLIT_OF
from src.data.options import Mode
from src.data.readers.archives import open_table
from src.data.store.packed_store import Split
from src.data.vocabulary import CANONICAL, canonical_name
from src.utils.errors import ConfigError

# The columns of the votes; the last two are no expression.
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
NO_FACE = ("unknown", "NF")
COLUMNS = ("Usage", "Image name", *EXPRESSIONS, *NO_FACE)
EXPECTED = f"FER+'s fer2013new.csv (columns {','.join(COLUMNS)}), from github.com/microsoft/FERPlus"
N = len(EXPRESSIONS)
# Where the column of each canonical class is.
COLUMN_OF = [[canonical_name(name) for name in EXPRESSIONS].index(name) for name in CANONICAL]
Votes = NDArray[np.int64]


@dataclass(frozen=True)
class Ballot:
    """The votes on one image.

    Attributes:
        split: Split that the table states.
        votes: Votes for the eight expressions, unknown and not a face, (10,).
    """

    split: Split
    votes: Votes


def read_votes(path: Path) -> list[Ballot]:
    """Read the votes in the order of FER2013's rows.

    Raises:
        ConfigError: If the file is no table of votes.
    """
    with open_table(path, "data.votes_path", EXPECTED, COLUMNS) as rows:
        columns = [name.strip() for name in next(rows, [])]
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise ConfigError(f"data.votes_path={path} lacks the columns {','.join(missing)}; expected {EXPECTED}.")
        order = [columns.index(name) for name in (*EXPRESSIONS, *NO_FACE)]
        usage = columns.index("Usage")
        return [_ballot(path, number, row, usage, order) for number, row in enumerate(rows)]


def _ballot(path: Path, number: int, row: list[str], usage: int, order: list[int]) -> Ballot:
    try:
        return Ballot(SPLIT_OF[row[usage].strip()], np.array([_count(row[column]) for column in order]))
    except (KeyError, IndexError, ValueError):
        raise ConfigError(
            f"data.votes_path={path}: row {number} (line {number + 2}) is {','.join(row)[:80]!r}; expected a usage "
            f"({', '.join(SPLIT_OF)}), a name and {len(order)} numbers of votes. Download the file again."
        ) from None


def _count(text: str) -> int:
    votes = int(text)
    if not 0 <= votes < 1000:
        raise ValueError(text)
    return votes


def decide(votes: Votes, mode: Mode) -> NDArray[np.int64] | str:
    """Count the votes on an image, single ones left out.

    Args:
        votes: Votes for the eight expressions, unknown and not a face, (10,).
        mode: Rule of FER+.

    Returns:
        The votes that count for the canonical classes, (8,), or why the image is left out.
    """
    votes = np.where(votes == 1, 0, votes)
    counted = {"majority": _majority, "soft": _leading, "multi": _frequent}[mode](votes)
    if 2 * counted.sum() <= votes.sum():
        return "no class, or no three classes, with more than half of the votes"
    if counted.argmax() >= N:
        return "unknown or not a face by most votes"
    return counted[COLUMN_OF]


def _majority(votes: Votes) -> Votes:
    return np.where(2 * votes > votes.sum(), votes, 0)


def _frequent(votes: Votes) -> Votes:
    return np.where(10 * votes >= 3 * votes.sum(), votes, 0)


def _leading(votes: Votes) -> Votes:
    """Take the classes with most votes, all that tie at once, up to three quarters of the votes.

    At unknown or not a face the counting stops; it counts only if no expression does. More than three classes are none.
    """
    counted, left = np.zeros_like(votes), votes.copy()
    while left.any() and 4 * counted.sum() < 3 * votes.sum():
        tied = left == left.max()
        counted[tied], left[tied] = left[tied], 0
        if tied[N:].any():
            break
    if counted[:N].any():
        counted[N:] = 0
    return counted if (counted > 0).sum() <= 3 else np.zeros_like(votes)
