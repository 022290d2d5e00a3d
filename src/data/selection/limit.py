"""At most so many training images of a class."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from src.data.selection.halves import draw_order


def within_limit(digests: NDArray[np.bytes_], labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.bool_]:
    """Return which images to keep so that no class has more than a limit.

    Which ones does not depend on their order, and a higher limit keeps those of a lower one.

    Args:
        digests: Hashes of the pixels, (N,).
        labels: Class indices, (N,).
        limit: Images of a class at most.
        seed: Seed of the draw.

    Returns:
        (N,).
    """
    drawn: Counter[int] = Counter()
    kept = np.zeros(len(labels), bool)
    for i in draw_order(digests, seed):
        label = int(labels[i])
        kept[i] = drawn[label] < limit
        drawn[label] += 1
    return kept
