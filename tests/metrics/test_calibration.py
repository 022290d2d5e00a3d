import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from src.metrics.calibration import (
    class_probabilities,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    retemper,
)


@pytest.fixture
def sure():
    """Logits three times too large, and labels drawn from what they should be."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=1)])
    return 3 * logits, labels


def test_the_temperature_is_the_one_that_scipy_finds(sure):
    logits, labels = sure
    found = fit_temperature(softmax(logits, axis=1), labels)
    rows = np.arange(len(labels))
    expected = minimize_scalar(lambda t: -log_softmax(logits / t, axis=1)[rows, labels].mean(), bounds=(0.1, 20))
    assert found == pytest.approx(expected.x, rel=1e-4)
    assert found == pytest.approx(3, rel=0.05)
    before, after = softmax(logits, axis=1), retemper(softmax(logits, axis=1), found)
    assert after == pytest.approx(softmax(logits / found, axis=1), abs=1e-9)
    assert retemper(after, 1 / found) == pytest.approx(before, abs=1e-9)
    errors = [expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels) for p in (before, after)]
    assert errors[1] < errors[0] / 4
    assert negative_log_likelihood(after, labels) < negative_log_likelihood(before, labels)


def test_probabilities_that_became_zero_do_no_harm(sure):
    logits, labels = sure
    probabilities = softmax(40 * logits, axis=1).astype(np.float32).astype(float)
    assert (probabilities == 0).any()
    assert np.isfinite(fit_temperature(probabilities, labels))


def test_columns_are_found_by_name():
    import pandas as pd

    table = pd.DataFrame({"label": ["sad", "happy"], "happy": [0.25, 1.0], "sad": [0.75, 0.0]})
    probabilities, labels = class_probabilities(table, ("sad", "happy"))
    assert probabilities.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert labels.tolist() == [0, 1]
