"""The table of directions, against the metrics themselves."""

import pytest
import torch
from torchmetrics import ClasswiseWrapper

from src.metrics.classification import classification_metrics
from src.metrics.directions import HIGHER_IS_BETTER, family, mode_of, monitor_mode
from src.metrics.intervals import METRICS
from src.models.evaluation_metrics import EvaluationMetrics
from src.models.prediction import Prediction
from src.utils.errors import ConfigError

CLASSES = ("happy", "sad", "angry")


class Landmarked(Prediction):
    """A prediction whose landmarks are given."""

    landmarks = torch.rand(12, 68, 2, generator=torch.Generator().manual_seed(0))


def evaluated(error: float) -> dict[str, float]:
    """Return all metrics of predictions that are right for an error of 0 and random for one of 1."""
    generator = torch.Generator().manual_seed(0)
    label, values = torch.arange(12) % 3, torch.linspace(-0.9, 0.9, 12)
    probabilities = torch.eye(3)[label] * (1 - error) + torch.rand(12, 3, generator=generator).softmax(1) * error
    off = torch.randn(12, generator=generator) * error
    prediction = Landmarked(probabilities, values + off, values + off)
    batch = {"label": label, "valence": values, "arousal": values, "landmarks": Landmarked.landmarks + error}
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal", "landmarks"))
    metrics.update_single_view(probabilities, batch)
    metrics.update(probabilities, prediction, batch)
    return {name: float(value) for name, value in metrics.compute().items()}


def test_every_metric_of_an_evaluation_is_in_the_table_and_no_other():
    assert {family(name) for name in evaluated(0.5)} | {"loss"} == HIGHER_IS_BETTER.keys()


def test_better_predictions_are_better_by_the_table():
    right, wrong = evaluated(0.0), evaluated(1.0)
    for name in right:
        better, worse = (right, wrong) if mode_of(f"val/{name}") == "max" else (wrong, right)
        assert better[name] > worse[name], name


def test_the_table_agrees_with_torchmetrics():
    for name, metric in classification_metrics(CLASSES).items(keep_base=True):
        inner = metric.metric if isinstance(metric, ClasswiseWrapper) else metric
        family = "f1/<class>" if name == "f1" else name
        assert HIGHER_IS_BETTER[family] is inner.higher_is_better, name


def test_what_ranks_a_leaderboard_is_better_if_higher():
    assert {mode_of(f"test/{name}") for name in METRICS} == {"max"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/loss", "min"),
        ("test/landmarks_nme", "min"),
        ("val/f1/happy", "max"),
        ("val/landmarks_median/jaw", "min"),
        ("val/beauty", None),
        ("loss", None),
    ],
)
def test_names_have_a_split(name, mode):
    assert mode_of(name) == mode


def test_an_unknown_metric_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ConfigError, match=r"monitor=val/beauty.*val/loss.*val/f1_macro.*val/landmarks_nme"):
        monitor_mode("val/beauty")
