"""All metrics of a split together."""

import torch

from src.models.evaluation_metrics import EvaluationMetrics
from src.models.prediction import Prediction

CLASSES = ("happy", "sad", "angry")


def batch(n=6):
    values = torch.linspace(-1, 1, n)
    return {"label": torch.arange(n) % 3, "valence": values, "arousal": values.flip(0)}


def count(metrics, n=6, **changes):
    given = {**batch(n), **changes}
    probabilities = torch.nn.functional.one_hot(given["label"], 3).float()
    metrics.update(probabilities, Prediction(probabilities, given["valence"], given["arousal"]), given)


def test_what_is_no_output_is_no_metric():
    metrics = EvaluationMetrics(CLASSES, ("expression",))
    count(metrics)
    values = metrics.compute()
    assert values["accuracy"] == 1
    assert not any(name.startswith(("valence", "arousal", "landmarks", "accuracy_single")) for name in values)


def test_outputs_without_a_batch_that_has_them_are_left_out():
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal", "landmarks"))
    nothing = torch.full((6,), torch.nan)
    count(metrics)
    count(metrics, valence=nothing)
    values = metrics.compute()
    assert values["valence_ccc"] == values["arousal_ccc"] == 1
    assert "landmarks_nme" not in values


def test_reset_forgets_everything():
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal"))
    metrics.single_view.update(torch.eye(3), torch.tensor([1, 2, 0]))
    count(metrics)
    assert metrics.compute()["accuracy_single_view"] == 0
    metrics.reset()
    count(metrics, n=3, valence=torch.tensor([0.1, 0.2, 0.4]), arousal=torch.full((3,), torch.nan))
    values = metrics.compute()
    assert "accuracy_single_view" not in values
    assert "arousal_ccc" not in values
    assert values["valence_ccc"] == 1
