import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from src.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
    retemper,
)
from src.metrics.classification import evaluate_table


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


def test_the_error_is_that_of_the_metrics_of_a_run(sure):
    logits, labels = sure
    probabilities = np.vstack([softmax(logits, axis=1), np.eye(5)]).astype(np.float32)  # some confidences of exactly 1
    labels = np.append(labels, [0, 1, 2, 3, 0])
    found = expected_calibration_error(probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels)
    names = [str(i) for i in range(5)]
    run = evaluate_table(torch.from_numpy(probabilities), torch.from_numpy(labels), names)["ece"]
    assert found == pytest.approx(run, abs=1e-6)


def test_the_curve_gives_the_same_error(sure):
    logits, labels = sure
    probabilities = softmax(logits / 3, axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    curve = reliability_curve(confidence, correct)
    assert curve.count.sum() == len(labels)
    error = np.abs(curve.confidence - curve.accuracy) @ curve.count / len(labels)
    assert expected_calibration_error(confidence, correct) == pytest.approx(error, abs=1e-9)


def test_the_edges_of_a_bin_belong_to_the_upper_one_and_one_to_the_last():
    curve = reliability_curve(np.array([0.2, 0.2 - 1e-9, 1.0, 0.97]), np.array([True, False, True, False]))
    assert curve.count.tolist() == [1, 1, 2]
    assert curve.accuracy.tolist() == [0, 1, 0.5]
    assert curve.confidence.tolist() == pytest.approx([0.2, 0.2, 0.985])
