"""Splits that a data set lacks: drawn by a seed, stratified by class, the same whatever the order of the images."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from src.data.store.packed_store import SPLITS, Split
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# Names that users and data sets give their splits; the last ones are those of FER2013.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "privatetest"), "test"),
}


def check_fractions(key: str, fractions: Sequence[float]) -> tuple[float, float, float]:
    """Return the fractions of training, validation and test.

    Args:
        key: Configuration key they come from, for the message.
        fractions: The three of them.

    Raises:
        ConfigError: If they do not sum to 1.
    """
    train, val, test = fractions
    if abs(train + val + test - 1) > 1e-6:
        raise ConfigError(
            f"{key}={list(fractions)}; expected the fractions of train, val and test, which sum to 1, such as "
            "[0.8,0.1,0.1]."
        )
    return train, val, test


def validation_fractions(val_share: float) -> tuple[float, float, float]:
    """Return the fractions of train, val and test where validation is drawn from training and the test set is given."""
    return 1 - val_share, val_share, 0.0


def complete_splits(
    ids: Sequence[str],
    labels: Sequence[str],
    known: Sequence[Split | None],
    fractions: Sequence[float],
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> list[Split]:
    """Keep the splits that a data set states and draw validation and test images, where it has none, from training.

    Every class is shared out alike; with three images or more (as many as there are splits to fill), it has one in
    each. Who is drawn depends on the seed and the image's id alone, not on the order of the images.

    Args:
        ids: Names of the images, (N,), unique.
        labels: Their class names, (N,).
        known: Their splits, (N,); None counts as training.
        fractions: Fractions of train, val and test; a missing split takes its fraction relative to training's. With a
            fraction of 0 it stays empty.
        seed: Seed of the draw.
        groups: What each image belongs to, (N,), such as its subject. A group is never divided, so the fractions
            and the classes are only approximately kept.

    Returns:
        The splits, (N,).

    Raises:
        ConfigError: If there are fewer groups than splits to fill.
    """
    stated = set(known)
    weights = {
        split: fraction
        for split, fraction in zip(SPLITS, fractions, strict=True)
        if split == "train" or split not in stated
    }
    splits: list[Split] = [split or "train" for split in known]
    pool = [row for row, split in enumerate(splits) if split == "train"]
    weights = {split: fraction for split, fraction in weights.items() if fraction > 0}
    if not pool or not weights or weights.keys() == {"train"}:
        return splits
    pool.sort(key=lambda row: _lot(seed, ids[row]))
    if groups is None:
        drawn = _draw_by_class([labels[row] for row in pool], weights)
    else:
        drawn = _draw_by_group([labels[row] for row in pool], [groups[row] for row in pool], weights)
    for row, split in zip(pool, drawn, strict=True):
        splits[row] = split
    counts = Counter(drawn)
    told = ", ".join(f"{split} {counts[split]:,}" for split in weights)
    log.info("Drew splits, stratified by class, with seed %d: %s", seed, told)
    return splits


def _lot(seed: int, id: str) -> bytes:
    """Return an image's place in the queue; of blake2b, since Python's own hash differs from process to process."""
    return hashlib.blake2b(f"{seed}|{id}".encode(), digest_size=16).digest()


def _draw_by_class(labels: Sequence[str], weights: Mapping[Split, float]) -> list[Split]:
    """Deal the images of each class, in their order, to the splits."""
    queues = {
        label: iter(np.repeat(list(weights), _counts(n, weights)).tolist()) for label, n in Counter(labels).items()
    }
    return [next(queues[label]) for label in labels]


def _counts(n: int, weights: Mapping[Split, float]) -> NDArray[np.int64]:
    """Divide n by the weights: largest remainders, and at least one each where n suffices."""
    exact = n * np.array(list(weights.values())) / sum(weights.values())
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    while n >= len(counts) and not counts.all():
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts


def _draw_by_group(labels: Sequence[str], groups: Sequence[Hashable], weights: Mapping[Split, float]) -> list[Split]:
    """Give each group, large ones first, to the split that lacks most of what it holds.

    Greedy, as in scikit-learn's StratifiedGroupKFold: it lowers the squared distance between the splits' class counts
    and the wanted ones, each class counted alike however rare it is.
    """
    classes = sorted(set(labels))
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    if len(members) < len(weights):
        raise ConfigError(
            f"data.path has {len(members)} subject(s) or recording(s), too few for the splits {', '.join(weights)}; "
            "add some, or state the splits, or give a split the fraction 0 in data.split_shares."
        )
    total = np.bincount([classes.index(label) for label in labels], minlength=len(classes))
    lacking = {split: total * weight / sum(weights.values()) for split, weight in weights.items()}
    empty = list(weights)
    drawn: list[Split] = ["train"] * len(labels)
    queue = sorted(members.values(), key=len, reverse=True)
    for done, rows in enumerate(queue):
        held = np.bincount([classes.index(labels[row]) for row in rows], minlength=len(classes))
        # The last groups go to splits that have none.
        choices = empty if len(queue) - done <= len(empty) else list(weights)
        gains = [float((held * (2 * lacking[split] - held) / total**2).sum()) for split in choices]
        split = choices[int(np.argmax(gains))]
        lacking[split] = lacking[split] - held
        empty = [other for other in empty if other != split]
        for row in rows:
            drawn[row] = split
    return drawn
