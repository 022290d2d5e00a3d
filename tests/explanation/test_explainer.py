"""Tests of methods, layers and targets on small models with fresh weights, against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.explanation.adapter import Outputs, explainable, find_layer
from src.explanation.explainer import Explainer
from src.explanation.methods import METHODS, Request
from src.explanation.targets import Target
from src.models.classifier import ExpressionClassifier
from src.models.spec import ModelSpec
from src.utils.errors import ConfigError

CLASSES = ("neutral", "happy", "sad")
HEADS = {"linear": "fused", "linear_flat": "fused", "self_attention": "fused", "multihead": "fused", "emonet": "pooled"}


def make(
    head: str = "linear", size: int = 64, outputs: tuple[str, ...] = ("expression",), **options: Any
) -> ExpressionClassifier:
    spec = ModelSpec(
        backbone={"name": "emonet_tiny", "width": 16, "n_hourglass": 1, "n_blocks": 4},
        head={"name": head, "tap": HEADS[head], "valence_arousal": "valence_arousal" in outputs},
        class_names=CLASSES,
        image_size=size,
        grayscale=False,
        crop="fer2013",
        outputs=outputs,
        trained_on="",
        precision="32-true",
    )
    return ExpressionClassifier(spec, spec.build_backbone(), spec.build_head(), **options).eval()


def fused_and_gradient(model: ExpressionClassifier, images: Tensor, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the map at `fused` and the gradient of a logit with respect to it, (B, C, 16, 16) each."""
    with torch.no_grad():
        fused = model.backbone.fuse(images)[0]
    fused.requires_grad_()
    model.split(model.head(model.backbone.after_fusion(fused, model.head.tap))).logits[:, index].sum().backward()
    return fused.detach().numpy(), fused.grad.numpy()


def resized(maps: np.ndarray) -> Tensor:
    """Return maps (B, 16, 16) interpolated to 64 x 64, from 0 to 1 unless all are 0."""
    large = F.interpolate(torch.from_numpy(maps).unsqueeze(1), size=(64, 64), mode="bilinear")[:, 0]
    large = large - large.amin(dim=(1, 2), keepdim=True)
    return large / large.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("frozen", ["none", "all"])
def test_cams_are_those_of_their_papers(frozen: str) -> None:
    """Grad-CAM: Selvaraju et al. (ICCV 2017), equations 1 and 2; HiResCAM: Draelos and Carin (2020), equation 4."""
    model, images = make("emonet", freeze=frozen), torch.rand(2, 3, 64, 64)
    seen = 0
    for index, name in enumerate(CLASSES):
        fused, gradient = fused_and_gradient(model, images, index)
        expected = {
            "gradcam": (fused * gradient.mean(axis=(2, 3), keepdims=True)).sum(axis=1),
            "hirescam": (fused * gradient).sum(axis=1),
        }
        for method, maps in expected.items():
            with Explainer(model, method) as explain:
                found = explain(images, [Target(name)] * 2)
            torch.testing.assert_close(found, resized(np.maximum(maps, 0)), atol=1e-4, rtol=0)
            seen += int((maps.max(axis=(1, 2)) > 0).sum())
    assert seen >= 4


def test_a_map_without_differences_is_blank() -> None:
    model = make("multihead")
    model.head.reduce.register_forward_hook(lambda module, inputs, output: torch.full_like(output, 0.3))
    targets = [Target("happy", "sad"), Target("sad", "happy")]
    with Explainer(model, "gradcam", "head.reduce") as explain:
        assert not explain(torch.rand(2, 3, 64, 64), targets).any()


def test_integrated_gradients_add_up() -> None:
    """Completeness (Sundararajan et al., ICML 2017): the sum is what the output gains over the mean color."""
    model, images = make(), torch.rand(2, 3, 64, 64)
    weights = torch.stack([Target("happy", "sad").weights(model.spec)] * 2)
    with explainable(model) as outputs:
        layer = find_layer(model).module
        maps = METHODS["integrated_gradients"].explain(Request(outputs, layer, images.clone(), weights))
    with torch.no_grad():
        plain = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
        gains = ((Outputs(model)(images) - Outputs(model)(plain)) * weights).sum(dim=1)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), gains, rtol=0.05, atol=0.01)


def test_occlusion_finds_the_only_thing_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = make(), torch.zeros(1, 3, 64, 64)
    images[..., 40:56, 8:24] = 1

    def brightness(self: Outputs, image: Tensor) -> Tensor:
        return image[:, :, 40:56, 8:24].mean(dim=(1, 2, 3)).unsqueeze(1).expand(-1, 3)

    monkeypatch.setattr(Outputs, "forward", brightness)
    with Explainer(model, "occlusion") as explain:
        found = explain(images, [Target("sad")])[0]
    assert found[40:56, 8:24].min() > 0.4
    assert not found[:24].any()
    assert not found[:, 40:].any()


@pytest.mark.parametrize("head", ["multihead", "self_attention"])
def test_attention_is_the_heads_own_uninterpolated(head: str) -> None:
    model, images = make(head), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        weights = model.head.attention_weights(model.features(images))
    side = 4 if head == "multihead" else 16
    received = weights.mean(dim=(1, 2)).view(2, side, side)
    with Explainer(model, "attention") as explain:
        found = explain(images, [Target("happy"), Target("sad")])
    cell = 64 // side
    for i in range(cell):
        torch.testing.assert_close(found[:, i::cell, i::cell], received / received.amax(dim=(1, 2), keepdim=True))


def test_automatic_methods() -> None:
    chosen = {head: Explainer(make(head)).method for head in HEADS}
    assert chosen == {
        "linear": "gradcam",
        "linear_flat": "hirescam",
        "self_attention": "gradcam",
        "multihead": "hirescam",
        "emonet": "gradcam",
    }


@pytest.mark.parametrize(
    ("head", "size", "name", "side"),
    [
        ("linear", 64, "fused", 16),
        ("emonet", 64, "fused", 16),
        ("emonet", 256, "emotion2", 16),
        ("linear", 256, "fused", 64),
    ],
)
def test_layer_is_the_deepest_with_a_map_of_8(head: str, size: int, name: str, side: int) -> None:
    assert find_layer(make(head, size))[::2] == (name, side)


def test_layers_are_named() -> None:
    model = make("emonet")
    assert find_layer(model, "emotion2").side == 4
    assert find_layer(model, "backbone.conv4").side == 16
    explainer = Explainer(model, "gradcam", "emotion2")
    assert explainer.heading == "Grad-CAM\nat emotion2, 4 x 4"
    assert "same for all classes" in Explainer(model, "eigencam").heading
    mistakes = {
        "foo": "explain.layer=foo is no layer",
        "": "is no layer",
        "emotion": "gives no map",  # one position at 64 px
        "head.fc": "gives no map",
        "head": "gives no map",
    }
    for name, message in mistakes.items():
        with pytest.raises(ConfigError, match=message):
            Explainer(model, "gradcam", name)
    with pytest.raises(ConfigError, match=r"explain\.layer=emotion2 is no layer"):
        find_layer(make("linear"), "emotion2")  # behind the head's tap


def test_targets_are_rows_of_outputs() -> None:
    model = make(outputs=("expression", "valence_arousal"))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        prediction, outputs = model(images), Outputs(model)(images)
    cases = {
        Target("sad"): prediction.logits[:, 2],
        Target("sad", against="neutral"): prediction.logits[:, 2] - prediction.logits[:, 0],
        Target("valence"): prediction.valence,
        Target("arousal"): prediction.arousal,
    }
    for target, expected in cases.items():
        torch.testing.assert_close(outputs @ target.weights(model.spec), expected)
    assert str(Target("sad", against="neutral")) == "sad, not neutral"


def test_untrained_outputs_are_refused() -> None:
    for name in ("valence", "joy"):
        with pytest.raises(ConfigError, match=f"'{name}'.*expected one of neutral, happy, sad"):
            Target(name).weights(make().spec)


def test_images_have_their_own_targets() -> None:
    model, image = make(), torch.rand(1, 3, 64, 64)
    with Explainer(model) as explain:
        both = explain(image.expand(2, -1, -1, -1), [Target("happy"), Target("sad")])
        alone = torch.cat([explain(image, [Target(name)]) for name in ("happy", "sad")])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=0)
    assert not torch.allclose(both[0], both[1], atol=0.05)


def test_misuse_is_named() -> None:
    with pytest.raises(ConfigError, match=r"explain\.method=lime; expected one of auto, gradcam"):
        Explainer(make(), "lime")
    with pytest.raises(RuntimeError, match="inside its with block"):
        Explainer(make())(torch.rand(1, 3, 64, 64), [Target("happy")])
    with pytest.raises(ConfigError, match="the head linear attends to nothing"):
        Explainer(make(), "attention")


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = make().train()
    with pytest.raises(ConfigError), Explainer(model) as explain:
        explain(torch.rand(1, 3, 64, 64), [Target("joy")])
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.utils.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[explain\]'"):
        Explainer(make())
