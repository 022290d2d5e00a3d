"""Tests of the limit of images a class."""

from __future__ import annotations

import numpy as np

from src.data.selection.limit import within_limit

DIGESTS = np.array([f"{i:08x}" for i in range(300)], dtype="S32")
LABELS = np.repeat([0, 1, 2], [200, 90, 10])


def test_no_class_has_more_than_the_limit_and_small_ones_stay_whole() -> None:
    kept = within_limit(DIGESTS, LABELS, 50, seed=0)
    assert np.bincount(LABELS[kept]).tolist() == [50, 50, 10]


def test_the_order_does_not_matter_and_a_higher_limit_keeps_the_lower_ones_images() -> None:
    order = np.random.default_rng(0).permutation(300)
    kept = within_limit(DIGESTS, LABELS, 50, seed=0)
    assert np.array_equal(within_limit(DIGESTS[order], LABELS[order], 50, seed=0), kept[order])
    assert within_limit(DIGESTS, LABELS, 60, seed=0)[kept].all()


def test_the_seed_draws() -> None:
    kept = [within_limit(DIGESTS, LABELS, 50, seed) for seed in (0, 1)]
    assert not np.array_equal(*kept)
    # By chance a quarter of the first class is in both.
    assert 3 < (kept[0] & kept[1])[LABELS == 0].sum() < 25
