"""Images of a data set that joins several collections: how many come from each, and what they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.data.selection.near_duplicates import Fingerprints, NearDuplicates
from src.data.store.packed_store import SPLITS, PackedStore

Table = dict[str, dict[str, int]]


def count_origins(store: PackedStore, origins: Sequence[str]) -> Table:
    """Return origin -> split -> number of images; `origins` names that of each image, (N,)."""
    named = np.asarray(origins)
    return {
        origin: {split: int((named[store.rows(split)] == origin).sum()) for split in SPLITS}
        for origin in sorted(set(origins))
    }


def shared_images(origins: Sequence[str], prints: Fingerprints, near: NearDuplicates) -> Table:
    """Return origin -> other origin -> images of the first that have an exact or near duplicate in the second.

    Args:
        origins: Where each image comes from, (N,).
        prints: The U distinct images.
        near: Pairs of near duplicates, as rows of the store.
    """
    names = sorted(set(origins))
    index = np.searchsorted(names, np.asarray(origins))
    # Which distinct image is there from which origin, and which has a partner of which origin.
    n_from = np.zeros((len(prints), len(names)), np.int64)
    np.add.at(n_from, (prints.image_of_row, index), 1)
    partners: NDArray[np.bool_] = n_from > 0
    left, right = prints.image_of_row[near.pairs].T
    np.logical_or.at(partners, left, n_from[right] > 0)
    np.logical_or.at(partners, right, n_from[left] > 0)
    return {
        name: {other: int(n_from[partners[:, o], i].sum()) for o, other in enumerate(names) if o != i}
        for i, name in enumerate(names)
    }
