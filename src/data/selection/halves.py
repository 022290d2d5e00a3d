"""Two halves of a training split, so that a backbone and its heads can learn from different images."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from src.data.options import Half


def draw_order(digests: NDArray[np.bytes_], seed: int) -> list[int]:
    """Return the places of images in a random order that depends on the images and the seed alone.

    Args:
        digests: Hashes of the pixels, (N,).
        seed: Seed of the draw.
    """
    lots = [hashlib.blake2b(b"%d|" % seed + bytes(name), digest_size=16).digest() for name in digests.tolist()]
    return sorted(range(len(lots)), key=lots.__getitem__)


def in_half(digests: NDArray[np.bytes_], labels: NDArray[np.int64], half: Half, seed: int) -> NDArray[np.bool_]:
    """Return which images belong to a half.

    Each class is dealt out alike, and exact duplicates stay together, with the class of the first one. Which half an
    image is in does not depend on its place.

    Args:
        digests: Hashes of the pixels, (N,).
        labels: Class indices, (N,).
        half: Which half.
        seed: Seed of the draw.

    Returns:
        (N,).
    """
    names, first, group = np.unique(digests, return_index=True, return_inverse=True)
    dealt: Counter[int] = Counter()
    second = np.zeros(len(names), bool)
    for i in draw_order(names, seed):
        label = int(labels[first[i]])
        # Classes start in turn, so that odd ones do not all give their extra image to the same half.
        second[i] = (dealt[label] + label) % 2 == 1
        dealt[label] += 1
    return np.asarray((second if half == "second" else ~second)[group])
