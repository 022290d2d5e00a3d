"""Duplicates among the images of several stores: which ones to leave out so that no image is there twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from src.data.selection.near_duplicates import fingerprints, near_pairs
from src.data.store.packed_store import PackedStore

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """K images of several stores, from which to choose.

    Attributes:
        part: Index of the store, (K,).
        row: Row there, (K,).
        split: Index into `SPLITS`, (K,).
        label: Class index, in whatever order the store's data set has, (K,).
    """

    part: Rows
    row: Rows
    split: Rows
    label: Rows


def find_duplicates(stores: Sequence[PackedStore], listed: Candidates) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the images to leave out.

    Of duplicates, the one that stays is in the test rather than the validation and there rather than the training
    split; of these, in the first store; of these, the first.

    Args:
        stores: The stores.
        listed: Images to choose from.

    Returns:
        Whether an image is an exact duplicate of one that comes before it, (K,), and whether, with no such
        duplicate, it is a near duplicate of one of another store that stays, (K,).
    """
    digests = np.empty(len(listed.row), stores[0].digests.dtype)
    for part, store in enumerate(stores):
        here = listed.part == part
        digests[here] = store.digests[listed.row[here]]
    order = np.lexsort((listed.row, listed.part, -listed.split))
    names, first = np.unique(digests[order], return_index=True)
    exact = np.ones(len(order), bool)
    exact[order[first]] = False
    near = np.zeros(len(order), bool)
    near[order[first[_dropped(_pairs(stores, names), first)]]] = True
    return exact, near


def _pairs(stores: Sequence[PackedStore], digests: NDArray[np.bytes_]) -> Rows:
    """Return the pairs of near duplicates in different stores, as indices into the sorted digests, (P, 2)."""
    prints = [fingerprints(store) for store in stores]
    found = [np.empty((0, 2), np.int64)]
    for one, other in combinations(prints, 2):
        left, right = near_pairs(one, other)
        names = np.column_stack((one.digests[left], other.digests[right]))
        index = np.searchsorted(digests, names).clip(max=len(digests) - 1)
        # Images that are not to choose from have no part in this, and exact duplicates are one image here.
        found.append(index[(digests[index] == names).all(axis=1) & (index[:, 0] != index[:, 1])])
    return np.concatenate(found)


def _dropped(pairs: Rows, rank: Rows) -> list[int]:
    """Return the images that are paired with one that stays; the smaller rank stays."""
    paired: dict[int, list[int]] = defaultdict(list)
    for left, right in pairs.tolist():
        paired[left].append(right)
        paired[right].append(left)
    dropped: set[int] = set()
    for image in sorted(paired, key=lambda index: int(rank[index])):
        if any(rank[other] < rank[image] and other not in dropped for other in paired[image]):
            dropped.add(image)
    return sorted(dropped)
