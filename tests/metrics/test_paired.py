import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from src.metrics import paired
from src.metrics.intervals import accuracy
from src.metrics.paired import bootstrap_difference, holm, mcnemar


def discordant(only_a, only_b, both=50):
    a = np.array([True] * only_a + [False] * only_b + [True] * both)
    b = np.array([False] * only_a + [True] * only_b + [True] * both)
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 9), (20, 41), (300, 340)])
def test_mcnemar_is_the_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar(*discordant(only_a, only_b)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_is_the_corrected_chi_squared():
    expected = chi2.sf((abs(700 - 790) - 1) ** 2 / 1490, 1)
    assert paired.EXACT_UP_TO < 1490
    assert mcnemar(*discordant(700, 790)) == pytest.approx(expected, rel=1e-9)


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
    found = bootstrap_difference(labels, a, b, 2, accuracy, n_resamples=500)
    assert found.value == pytest.approx(0.05)
    assert 0.02 < found.low < found.value < found.high < 0.08  # unpaired, it would reach below 0
    same = bootstrap_difference(labels, [a, b], [b, a], 2, "accuracy", n_resamples=50)
    assert same == pytest.approx((0, 0, 0))
