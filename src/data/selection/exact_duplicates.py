"""Exact duplicates: which training and test images to leave out, by the hash of their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.data.store.packed_store import SPLITS, PackedStore, Split


def training_rows(store: PackedStore) -> NDArray[np.int64]:
    """Return the training rows without duplicates.

    Every exact duplicate of a validation or test image is left out, and so are later duplicates within the training
    split; where their labels conflict, the first one counts.
    """
    rows = store.rows("train")
    held_out = np.concatenate((store.digests[store.rows("val")], store.digests[store.rows("test")]))
    rows = rows[~np.isin(store.digests[rows], held_out)]
    return rows[_first_of_each(store.digests[rows])]


def clean_rows(store: PackedStore, split: Split) -> NDArray[np.int64]:
    """Return the rows of a split without an exact duplicate in the other splits, one per group of duplicates."""
    rows = store.rows(split)
    seen = np.concatenate([store.digests[store.rows(other)] for other in SPLITS if other != split])
    rows = rows[~np.isin(store.digests[rows], seen)]
    return rows[_first_of_each(store.digests[rows])]


def conflicting_groups(store: PackedStore) -> list[NDArray[np.int64]]:
    """Return the groups of byte-identical images that carry more than one label, as arrays of rows."""
    _, group = np.unique(store.digests, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [rows for rows in members if len(rows) > 1 and len(set(store.labels[rows])) > 1]


def _first_of_each(digests: NDArray[np.bytes_]) -> NDArray[np.int64]:
    return np.sort(np.unique(digests, return_index=True)[1])
