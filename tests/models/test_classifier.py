"""Tests of the LightningModule: what is trained, how fast, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from src.data.faces.generator import draw_face
from src.metrics.affect import agreement
from src.metrics.landmarks import normalized_distances
from src.models.classifier import SPEC_KEY, ExpressionClassifier
from src.models.landmarks import draw_heatmaps, find_landmarks, heatmap_loss
from src.models.losses import CrossEntropy, MultiTaskLoss, valence_arousal_loss
from src.models.schedules import one_cycle
from tests.models.conftest import CLASSES, FewImages, MakeClassifier, MakeSpec


def batch(n: int = 4) -> dict[str, Tensor]:
    return {
        "image": torch.rand(n, 3, 64, 64),
        "label": torch.arange(n) % len(CLASSES),
        "valence": torch.rand(n),
        "arousal": torch.rand(n),
        "row": torch.arange(n),
    }


def group_of(model: ExpressionClassifier) -> dict[str, dict[str, Any]]:
    """Return each trainable parameter's group by the parameter's name."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in model.parameter_groups() for p in group["params"]}


# What is trained of a model whose head reads the fused features.
TRAINED = {"none": "", "fan": ("head.", "backbone.conv1x1_input_emo_2"), "fused": "head.", "all": "head."}


@pytest.mark.parametrize("freeze", TRAINED)
def test_parameter_groups(make_classifier: MakeClassifier, freeze: str) -> None:
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.05)
    model = make_classifier(optimizer=optimizer, freeze=freeze, lr_multiplier=0.1)
    groups = group_of(model)
    assert groups.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if name in groups:
            assert groups[name]["lr"] == pytest.approx(0.01 if name.startswith("head.") else 0.001)
            assert (groups[name].get("weight_decay") == 0) == (parameter.ndim == 1), name
    made = optimizer(model.parameter_groups())
    assert {(g["lr"], g["weight_decay"]) for g in made.param_groups} == {
        (g["lr"], g.get("weight_decay", 0.05)) for g in groups.values()
    }


@pytest.mark.parametrize("freeze", TRAINED)
def test_gradients_stop_at_the_frozen_part(make_classifier: MakeClassifier, freeze: str) -> None:
    model = make_classifier(freeze=freeze).train()
    model(torch.rand(4, 3, 64, 64)).logits.sum().backward()
    trained = TRAINED[freeze]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(trained), name


def test_a_frozen_backbone_passes_gradients_to_the_image(make_classifier: MakeClassifier) -> None:
    model = make_classifier(freeze="all").eval()
    assert not model.features(torch.rand(1, 3, 64, 64)).requires_grad
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    model(image).logits[0, 0].backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.backbone.parameters())


class Snapshot(Callback):
    """Remembers the model as it was before training."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {name: value.clone() for name, value in pl_module.state_dict().items()}


@pytest.mark.parametrize("freeze", TRAINED)
def test_an_epoch_leaves_the_frozen_part_bit_equal(fit: Callable[..., Trainer], freeze: str) -> None:
    snapshot = Snapshot()
    model = fit(epochs=1, callbacks=[snapshot], freeze=freeze).lightning_module
    trained = TRAINED[freeze]
    for name, value in model.state_dict().items():
        if not name.startswith(trained):
            assert torch.equal(value, snapshot.before[name]), name
        elif name.endswith(("running_mean", "num_batches_tracked")) or value.ndim > 1:
            assert not torch.equal(value, snapshot.before[name]), name


def test_validation_metrics_are_those_of_the_whole_epoch(fit: Callable[..., Trainer]) -> None:
    trainer = fit(epochs=1)
    model, data = trainer.lightning_module.eval(), FewImages()
    with torch.no_grad():
        predictions = model(data.images).logits.argmax(dim=1)
    logged = trainer.callback_metrics
    assert logged["val/accuracy"].item() == pytest.approx(accuracy_score(data.labels, predictions))
    expected = f1_score(data.labels, predictions, average="macro", zero_division=0)
    assert logged["val/f1_macro"].item() == pytest.approx(expected)


def test_absent_classes_are_never_predicted(make_classifier: MakeClassifier) -> None:
    model = make_classifier(absent_classes=[0, 6]).eval()
    with torch.no_grad():
        model.head.classify.bias[[0, 6]] = 1e6
        output = model.test_step(batch(), 0)
    probabilities = output["probabilities"]
    assert not probabilities[:, [0, 6]].any()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))
    assert set(probabilities.argmax(dim=1).tolist()) <= {1, 2, 3, 4, 5}
    prediction = model(batch()["image"])
    model.probabilities(prediction)
    assert prediction.logits.isfinite().all(), "the prediction stays what it was"


@pytest.mark.parametrize("valence_arousal", [False, True])
def test_outputs_are_named(make_spec: MakeSpec, make_classifier: MakeClassifier, valence_arousal: bool) -> None:
    model = make_classifier(make_spec(head={"valence_arousal": valence_arousal}))
    outputs = torch.randn(2, 9 if valence_arousal else 7)
    prediction = model.split(outputs)
    assert torch.equal(prediction.logits, outputs[:, :7])
    if valence_arousal:
        assert torch.equal(prediction.valence, outputs[:, 7])
        assert torch.equal(prediction.arousal, outputs[:, 8])
    else:
        assert prediction.valence is None
        assert prediction.arousal is None


def test_training_loss_adds_valence_and_arousal(make_spec: MakeSpec, make_classifier: MakeClassifier) -> None:
    spec = make_spec(head={"valence_arousal": True})
    loss = CrossEntropy(class_counts=[1] * 7)
    model = make_classifier(spec, loss=MultiTaskLoss(loss, auxiliary_weight=0.5), freeze="all")
    images = batch()
    with torch.no_grad():
        prediction = model(images["image"])
        extra = [valence_arousal_loss(getattr(prediction, name), images[name]) for name in ("valence", "arousal")]
        expected = loss(prediction.logits, images["label"]) + 0.5 * sum(extra) / 2
        torch.testing.assert_close(model.training_step(images, 0), expected)


def test_valence_and_arousal_are_learned(make_spec: MakeSpec, make_classifier: MakeClassifier) -> None:
    """On the synthetic faces that it sees; the concordance of a constant is 0, or none at all."""
    faces = [draw_face(0, index, 64) for index in range(48)]
    images = {
        "image": torch.from_numpy(np.stack([face.image for face in faces])).permute(0, 3, 1, 2).float() / 255,
        "label": torch.tensor([CLASSES.index(face.expression) for face in faces]),
        "valence": torch.tensor([face.valence for face in faces]),
        "arousal": torch.tensor([face.arousal for face in faces]),
    }
    spec = make_spec(head={"name": "emonet", "tap": "pooled", "valence_arousal": True}, grayscale=False)
    model = make_classifier(spec, loss=MultiTaskLoss(CrossEntropy(class_counts=[1] * 7), auxiliary_weight=2.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for step in range(40):
        optimizer.zero_grad()
        model.training_step(images, step).backward()
        optimizer.step()
    with torch.no_grad():
        prediction = model.eval()(images["image"])
    for name in ("valence", "arousal"):
        assert agreement(getattr(prediction, name), images[name])["ccc"] > 0.5


@pytest.mark.parametrize("trained", [False, True])
def test_only_trained_valence_and_arousal_are_measured(
    make_spec: MakeSpec, make_classifier: MakeClassifier, trained: bool
) -> None:
    outputs = ("expression", "valence_arousal") if trained else ("expression",)
    model = make_classifier(make_spec(head={"valence_arousal": True}, outputs=outputs)).eval()
    logged: dict[str, Any] = {}
    model.log_dict = logged.update
    images = batch()
    with torch.no_grad():
        output = model.test_step(images, 0)
    model.on_test_epoch_end()
    found = {name for name in logged if "valence" in name or "arousal" in name}
    measures = {f"test/{name}_{m}" for name in ("valence", "arousal") for m in ("ccc", "pcc", "rmse", "sagr")}
    assert found == (measures if trained else set())
    if trained:
        expected = agreement(output["valence"], images["valence"])["rmse"]
        torch.testing.assert_close(logged["test/valence_rmse"], expected)


WITH_LANDMARKS = ("expression", "landmarks")


@pytest.mark.parametrize("trained", [False, True])
def test_landmarks_are_given_when_trained_and_asked_for(
    make_spec: MakeSpec, make_classifier: MakeClassifier, trained: bool
) -> None:
    spec = make_spec(backbone={"n_hourglass": 2}, outputs=WITH_LANDMARKS if trained else ("expression",))
    model, images = make_classifier(spec).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain, prediction = model(images), model(images, landmarks=True)
        _, heatmaps = model.backbone.fuse(images)
    assert plain.heatmap is None
    assert plain.landmarks is None
    torch.testing.assert_close(plain.logits, prediction.logits)
    if not trained:
        assert prediction.landmarks is None
        return
    assert prediction.heatmap.shape == (2, 68, 16, 16)
    torch.testing.assert_close(prediction.heatmaps, heatmaps)
    torch.testing.assert_close(prediction.landmarks, find_landmarks(heatmaps[-1]))


@pytest.mark.parametrize("freeze", ["none", "fan", "all"])
def test_training_loss_adds_landmarks_unless_they_are_frozen(
    make_spec: MakeSpec, make_classifier: MakeClassifier, freeze: str
) -> None:
    loss = CrossEntropy(class_counts=[1] * 7)
    spec = make_spec(backbone={"n_hourglass": 2}, outputs=WITH_LANDMARKS)
    model = make_classifier(spec, loss=MultiTaskLoss(loss, auxiliary_weight=0.5), freeze=freeze).eval()
    images = {**batch(), "landmarks": torch.rand(4, 68, 2) * 64}
    with torch.no_grad():
        prediction = model(images["image"], landmarks=True)
        expected = loss(prediction.logits, images["label"])
        if freeze == "none":
            expected = expected + 0.5 * heatmap_loss(prediction.heatmaps, images["landmarks"])
        torch.testing.assert_close(model.training_step(images, 0), expected)


def test_landmark_error_is_logged_where_both_sides_have_landmarks(
    make_spec: MakeSpec, make_classifier: MakeClassifier
) -> None:
    model = make_classifier(make_spec(outputs=WITH_LANDMARKS)).eval()
    logged: dict[str, Any] = {}
    model.log_dict = logged.update
    images = {**batch(), "landmarks": torch.rand(4, 68, 2) * 64}
    with torch.no_grad():
        model.test_step(images, 0)
        found = model(images["image"], landmarks=True).landmarks
    model.on_test_epoch_end()
    torch.testing.assert_close(logged["test/landmarks_nme"], normalized_distances(found, images["landmarks"]).mean())
    logged.clear()
    with torch.no_grad():
        model.test_step(batch(), 0)
    model.on_test_epoch_end()
    assert "test/accuracy" in logged
    assert "test/landmarks_nme" not in logged


def test_the_mask_stays_usable_when_heat_maps_are_those_of_landmarks() -> None:
    """The features are gated by the sum of the heat maps: of 68 true ones, it neither vanishes nor explodes."""
    face = draw_face(0, 3, 64)
    mask = draw_heatmaps(torch.from_numpy(face.landmarks)[None].float(), 16).sum(dim=1)
    assert 0.5 < mask.mean() < 3
    assert mask.max() < 20


def test_data_without_annotations_have_no_valence_metrics(make_spec: MakeSpec, make_classifier: MakeClassifier) -> None:
    spec = make_spec(head={"valence_arousal": True}, outputs=("expression", "valence_arousal"))
    model = make_classifier(spec).eval()
    logged: dict[str, Any] = {}
    model.log_dict = logged.update
    missing = torch.full((4,), torch.nan)
    with torch.no_grad():
        model.validation_step({**batch(), "valence": missing, "arousal": missing}, 0)
    model.on_validation_epoch_end()
    assert "val/accuracy" in logged
    assert not any("valence" in name or "arousal" in name for name in logged)


def test_training_accuracy_takes_the_largest_fraction_of_a_mixed_label(make_classifier: MakeClassifier) -> None:
    model = make_classifier(loss=MultiTaskLoss(CrossEntropy(class_counts=[1] * 7)), freeze="all")
    images = batch()
    with torch.no_grad():
        predicted = model(images["image"]).logits.argmax(dim=1)
    images["target"] = 0.7 * F.one_hot(predicted, 7) + 0.3 * F.one_hot((predicted + 1) % 7, 7)
    images["label"] = images["target"].argmax(dim=1)
    model.training_step(images, 0)
    assert model.training_summary()["train/accuracy"] == 1


def test_a_model_without_a_loss_cannot_train(make_classifier: MakeClassifier) -> None:
    model = make_classifier()
    with pytest.raises(RuntimeError, match="can predict, not train"):
        model.training_step(batch(), 0)
    with pytest.raises(RuntimeError, match="can predict, not train"):
        model.configure_optimizers()


def test_checkpoints_load_as_weights_only(tmp_path: Path, fit: Callable[..., Trainer]) -> None:
    trainer = fit(
        epochs=1,
        optimizer=partial(torch.optim.AdamW, lr=0.01),
        scheduler=partial(one_cycle, warmup=0.5),
        loss=MultiTaskLoss(CrossEntropy(class_counts=list(range(1, 8)), class_weights="balanced")),
    )
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert checkpoint[SPEC_KEY] == trainer.lightning_module.spec.to_dict()
    prefixes = {name.split(".")[0] for name in checkpoint["state_dict"]}
    assert prefixes == {"backbone", "head"}
