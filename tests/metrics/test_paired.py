import math
from fractions import Fraction

import numpy as np
import pytest

from src.metrics.paired import bootstrap_confusions, bootstrap_difference, holm, mcnemar


def discordant(only_a, only_b, both=50):
    a = np.array([True] * only_a + [False] * only_b + [True] * both)
    b = np.array([False] * only_a + [True] * only_b + [True] * both)
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 9), (41, 20), (300, 340), (700, 790), (5000, 5000)])
def test_mcnemar_is_exact(only_a, only_b):
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    expected = float(min(Fraction(2 * tail, 2**n), Fraction(1)))
    assert mcnemar(*discordant(only_a, only_b)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_without_differences_is_one():
    assert mcnemar(*discordant(0, 0)) == 1
    with pytest.raises(ValueError, match="not of the same images"):
        mcnemar(np.array([True]), np.array([True, False]))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]


def test_the_difference_is_paired():
    labels = np.zeros(400, dtype=np.int64)
    a = (np.arange(400) < 200).astype(np.int64)
    b = (np.arange(400) < 220).astype(np.int64)  # wrong wherever a is, and on 20 more
    found = bootstrap_difference(labels, [a], [b], 2, "accuracy")
    assert found.value == pytest.approx(0.05)
    assert 0.02 < found.low < found.value < found.high < 0.08  # unpaired, it would reach below 0
    assert bootstrap_difference(labels, [a, b], [b, a], 2, "accuracy") == pytest.approx((0, 0, 0))


def test_a_resample_holds_the_same_images_for_every_model():
    labels = np.random.default_rng(0).integers(3, size=50)
    resampled = bootstrap_confusions(labels, [labels, (labels + 1) % 3], 3)
    assert resampled.shape == (2000, 2, 3, 3)
    assert (resampled.sum(axis=(2, 3)) == 50).all()
    assert (resampled[:, 0].sum(-1) == resampled[:, 1].sum(-1)).all()  # labels
    assert np.ptp(resampled[:, 0, 0, 0]) > 0
    alone = bootstrap_confusions(labels, [(labels + 1) % 3], 3)
    assert (alone[:, 0] == resampled[:, 1]).all()
