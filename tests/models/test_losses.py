"""Tests of the losses against torch, scikit-learn and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from src.models.landmarks import heatmap_loss
from src.models.losses import CrossEntropy, FocalLoss, MultiTaskLoss, partial_cross_entropy, valence_arousal_loss
from src.models.prediction import Prediction

COUNTS = [5, 1, 20, 8]
OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"class_weights": "balanced"},
    {"label_smoothing": 0.1, "class_weights": "balanced"},
]


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(16, 4, dtype=torch.float64)


@pytest.fixture(params=["indices", "probabilities"])
def target(request: pytest.FixtureRequest) -> Tensor:
    if request.param == "indices":
        return torch.randint(4, (16,))
    return torch.rand(16, 4, dtype=torch.float64).softmax(dim=1)


def balanced_weights() -> Tensor:
    labels = np.repeat(np.arange(4), COUNTS)
    return torch.from_numpy(compute_class_weight("balanced", classes=np.arange(4), y=labels))


@pytest.mark.parametrize("options", OPTIONS)
def test_cross_entropy_equals_torch(logits: Tensor, target: Tensor, options: dict) -> None:
    weight = balanced_weights() if "class_weights" in options else None
    expected = F.cross_entropy(logits, target, weight, label_smoothing=options.get("label_smoothing", 0))
    actual = CrossEntropy(class_counts=COUNTS, **options).double()(logits, target)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)


def test_smoothing_mixes_in_the_uniform_distribution(logits: Tensor) -> None:
    label = torch.randint(4, (16,))
    smooth = 0.8 * F.one_hot(label, 4) + 0.2 / 4
    expected = -(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean()
    actual = CrossEntropy(class_counts=COUNTS, label_smoothing=0.2)(logits, label)
    torch.testing.assert_close(actual, expected)


def test_a_class_without_images_weighs_nothing() -> None:
    weight = CrossEntropy(class_counts=[4, 0, 4], class_weights="balanced").weight
    torch.testing.assert_close(weight, torch.tensor([2 / 3, 0, 2 / 3]))


def test_weights_stay_out_of_the_state_dict() -> None:
    assert not CrossEntropy(class_counts=COUNTS, class_weights="balanced").state_dict()


@pytest.mark.parametrize("options", OPTIONS)
def test_focal_loss_without_focus_is_cross_entropy(logits: Tensor, target: Tensor, options: dict) -> None:
    focal = FocalLoss(gamma=0, class_counts=COUNTS, **options).double()
    torch.testing.assert_close(
        focal(logits, target), CrossEntropy(class_counts=COUNTS, **options).double()(logits, target)
    )


@pytest.mark.parametrize("gamma", [1, 2.5])
def test_focal_loss_equals_its_formula(logits: Tensor, gamma: float) -> None:
    label = torch.randint(4, (16,))
    p = torch.exp(-F.cross_entropy(logits, label, reduction="none"))
    expected = ((1 - p) ** gamma * -p.log()).mean()
    torch.testing.assert_close(FocalLoss(gamma=gamma, class_counts=COUNTS)(logits, label), expected)


def test_focal_loss_takes_one_hot_targets_as_indices(logits: Tensor) -> None:
    label = torch.randint(4, (16,))
    loss = FocalLoss(gamma=2, class_counts=COUNTS)
    torch.testing.assert_close(loss(logits, F.one_hot(label, 4).double()), loss(logits, label))


def ccc_loss(prediction: np.ndarray, target: np.ndarray) -> float:
    """Lin's formula, 2 rho s_p s_t / (s_p^2 + s_t^2 + (m_p - m_t)^2), and the mean squared error."""
    rho = np.corrcoef(prediction, target)[0, 1]
    distance = (prediction.mean() - target.mean()) ** 2
    ccc = 2 * rho * prediction.std() * target.std() / (prediction.var() + target.var() + distance)
    return 1 - ccc + np.mean((prediction - target) ** 2)


def test_valence_arousal_loss_equals_numpy() -> None:
    prediction, target = torch.randn(20).double(), torch.rand(20).double()
    expected = ccc_loss(prediction.numpy(), target.numpy())
    assert valence_arousal_loss(prediction, target).item() == pytest.approx(expected, rel=1e-9)


def test_valence_arousal_loss_of_a_perfect_prediction_is_zero() -> None:
    target = torch.rand(10)
    assert valence_arousal_loss(target.clone(), target).item() == pytest.approx(0, abs=1e-5)


def test_values_without_annotation_do_not_count() -> None:
    prediction, target = torch.randn(20, requires_grad=True), torch.rand(20)
    target[::3] = torch.nan
    known = ~target.isnan()
    loss = valence_arousal_loss(prediction, target)
    loss.backward()
    expected = ccc_loss(prediction[known].detach().double().numpy(), target[known].double().numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(prediction.grad != 0, known)


def test_half_precision_predictions_lose_nothing_more() -> None:
    prediction, target = torch.randn(200).bfloat16(), torch.rand(200)
    expected = ccc_loss(prediction.double().numpy(), target.double().numpy())
    assert valence_arousal_loss(prediction, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_known", [0, 1])
def test_too_few_annotations_give_no_gradient(n_known: int) -> None:
    prediction, target = torch.randn(5, requires_grad=True), torch.full((5,), torch.nan)
    target[:n_known] = 0.5
    loss = valence_arousal_loss(prediction, target)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(5))


def test_constant_predictions_have_finite_gradients() -> None:
    prediction = torch.zeros(5, requires_grad=True)
    valence_arousal_loss(prediction, torch.zeros(5)).backward()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("n_known", [0, 1, 3, 4])
def test_images_without_a_second_target_do_not_count(n_known: int) -> None:
    logits, target = torch.randn(4, 5, requires_grad=True), torch.rand(4, 5).softmax(dim=1)
    target[n_known:] = torch.nan
    loss = partial_cross_entropy(logits, target)
    loss.backward()
    expected = F.cross_entropy(logits[:n_known], target[:n_known]).item() if n_known else 0
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert logits.grad[n_known:].abs().sum() == 0
    assert (logits.grad[:n_known] != 0).all()


def test_all_tasks_are_summed_and_absent_ones_left_out() -> None:
    logits, targets = torch.randn(6, 4), {"label": torch.randint(4, (6,))}
    classification = CrossEntropy(class_counts=COUNTS)
    loss, plain = MultiTaskLoss(classification, auxiliary_weight=0.3), classification(logits, targets["label"])
    assert torch.equal(loss(Prediction(logits, None, None), targets), plain)
    prediction = Prediction(logits, torch.rand(6), torch.rand(6), torch.randn(6, 3), (torch.rand(6, 68, 16, 16),))
    affect = {"valence": torch.rand(6), "arousal": torch.rand(6)}
    further = {"second_target": torch.rand(6, 3).softmax(dim=1), "landmarks": torch.rand(6, 68, 2) * 64}
    auxiliary = [
        valence_arousal_loss(prediction.valence, affect["valence"]) / 2,
        valence_arousal_loss(prediction.arousal, affect["arousal"]) / 2,
        partial_cross_entropy(prediction.second_logits, further["second_target"]),
        heatmap_loss(prediction.heatmaps, further["landmarks"]),
    ]
    torch.testing.assert_close(loss(prediction, {**targets, **affect}), plain + 0.3 * sum(auxiliary[:2]))
    torch.testing.assert_close(loss(prediction, {**targets, **affect, **further}), plain + 0.3 * sum(auxiliary))
    other = MultiTaskLoss(classification, auxiliary_weight=0.3, landmark_weight=2.0)
    expected = plain + 0.3 * sum(auxiliary[:3]) + 2 * auxiliary[3]
    torch.testing.assert_close(other(prediction, {**targets, **affect, **further}), expected)


def test_classes_are_fitted_to_probabilities_where_there_are_any() -> None:
    logits, soft = torch.randn(6, 4), torch.rand(6, 4).softmax(dim=1)
    classification = CrossEntropy(class_counts=COUNTS)
    batch = {"label": torch.zeros(6, dtype=torch.long), "target": soft}
    assert torch.equal(
        MultiTaskLoss(classification)(Prediction(logits, None, None), batch), classification(logits, soft)
    )


@pytest.mark.parametrize("classification", [CrossEntropy(class_counts=COUNTS), FocalLoss(gamma=2, class_counts=COUNTS)])
def test_images_without_a_label_count_for_the_rest_alone(logits: Tensor, classification: torch.nn.Module) -> None:
    loss = MultiTaskLoss(classification.double())
    label, value = torch.randint(4, (16,)), torch.rand(16, dtype=torch.float64)
    known = torch.arange(16) % 3 > 0
    batch = {"valence": value, "arousal": value, "labeled": known, "label": label.masked_fill(~known, -1)}
    found = loss(Prediction(logits, 0 * value, None), batch)
    expected = classification(logits[known], label[known]) + valence_arousal_loss(0 * value, value) / 2
    torch.testing.assert_close(found, expected)
    logits.requires_grad_()
    nobody = {**batch, "label": torch.full((16,), -1), "labeled": torch.zeros(16, dtype=torch.bool)}
    loss(Prediction(logits, None, None), nobody).backward()
    assert logits.grad is not None
    assert not logits.grad.any()
