"""Tests of exact rescaling: the same outputs, within the range of half precision."""

import math
import os

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from src.models.rescaling import LIMIT, rescale
from src.models.weights import build_from_weights, load_weights, save_safetensors
from src.utils.groups import load_group
from src.utils.paths import ROOT
from tests.models.conftest import MakeClassifier, MakeSpec

HEADS = {
    **{name: "fused" for name in ("linear", "linear_flat", "linear_bottleneck", "self_attention", "multihead")},
    "emonet": "pooled",
}
SHIPPED = ("emonet_fer", "emonet_fer_small")


def shipped(name):
    return build_from_weights(load_weights(ROOT / "pretrained" / f"{name}.safetensors")).eval()


def noise_and_waves():
    """Noise and waves that no other release of a package draws otherwise, (4, 3, 64, 64)."""
    noise = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    y, x = np.mgrid[:64, :64].astype(np.float32) / 64
    waves = np.stack([0.5 + 0.5 * np.sin(a * x + b * y) for a, b in ((6, 9), (20, 3))])[:, None]
    return torch.from_numpy(np.concatenate([noise, waves]).astype(np.float32)).expand(-1, 3, -1, -1)


def head_outputs(model, images):
    with torch.no_grad():
        return model.head(model.features(images))


def peaks(model, images):
    """Return the largest magnitude of what every module takes and gives, by name."""
    found: dict[str, float] = {}

    def watch(name):
        def hook(module, given, output):
            for value in (*given, output):
                if isinstance(value, torch.Tensor):
                    found[name] = max(found.get(name, 0.0), float(value.abs().max()))

        return hook

    hooks = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n.startswith(("backbone.", "head"))]
    head_outputs(model, images)
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture
def blown_up(make_classifier: MakeClassifier, make_spec: MakeSpec):
    """Return a function that makes a model whose mask and features are as large as unlimited training makes them."""

    def make(head):
        tap = HEADS[head] if head == "emonet" else "emotion2"
        side = {"linear_bottleneck": 128, "multihead": 128, "self_attention": 128}.get(head, 64)
        own = {k: v for k, v in load_group("head", head).items() if k in ("key_channels", "embed_dim", "n_heads")}
        model = make_classifier(
            make_spec(head={**own, "name": head, "tap": tap}, backbone={"n_blocks": 3}, image_size=side)
        )
        images = torch.rand(16, 3, side, side)
        with torch.no_grad():
            model.backbone.l0.weight.normal_(std=200.0)
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = 1.0
            head_outputs(model.train(), images)
        return model.eval(), images

    return make


@pytest.mark.parametrize("head", HEADS)
def test_outputs_stay_and_features_fit(blown_up, head):
    model, images = blown_up(head)
    before, largest = head_outputs(model, images), peaks(model, images)
    assert largest["backbone.conv1x1_input_emo_2"] > 65504, "half precision could not hold these features"
    factors = rescale(model)
    assert factors["features"] < 1
    assert all(math.log2(factor).is_integer() for factor in factors.values())
    after = head_outputs(model, images)
    torch.testing.assert_close(after, before, atol=1e-4 * float(before.abs().max()), rtol=0)
    after_peaks = peaks(model, images)
    assert max(value for name, value in after_peaks.items() if name.startswith("backbone")) <= LIMIT
    assert after_peaks["backbone.conv1x1_input_emo_2"] == pytest.approx(
        largest["backbone.conv1x1_input_emo_2"] * factors["features"], rel=1e-4
    )
    with torch.autocast("cpu", torch.float16):
        assert bool(head_outputs(model, images).isfinite().all())
    assert rescale(model) == {}, "what fits is left alone"


def test_files_keep_the_scale(blown_up, tmp_path):
    model, images = blown_up("emonet")
    rescale(model)
    save_safetensors(model, tmp_path / "model.safetensors")
    again = build_from_weights(load_weights(tmp_path / "model.safetensors")).eval()
    assert again.backbone.feature_scale == model.backbone.feature_scale < 1
    assert torch.equal(head_outputs(again, images), head_outputs(model, images))


def test_training_goes_on_as_before(blown_up):
    """Batch statistics take the place of the stored ones: a step is the same, too, but for the scale of gradients."""
    (one, images), (other, _) = blown_up("emonet"), blown_up("emonet")
    other.load_state_dict(one.state_dict())
    rescale(other)
    for model in (one, other):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 0.1
        model.train()
    found, expected = (model.head(model.features(images)) for model in (other, one))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_what_fits_is_left_alone(make_classifier: MakeClassifier):
    model = make_classifier()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert rescale(model) == {}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "feature_scale" not in model.spec.backbone


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit(name):
    """By their statistics, which are those of the training images, and on images of any kind."""
    model = shipped(name)
    assert rescale(model) == {}
    blocks = torch.nn.functional.interpolate((torch.rand(4, 1, 8, 8) > 0.5).float(), scale_factor=8)
    images = torch.cat([noise_and_waves(), torch.rand(4, 3, 64, 64), blocks.expand(-1, 3, -1, -1)])
    assert max(peaks(model, images).values()) <= LIMIT


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit_on_all_of_publictest(name, public_test):
    torch.set_num_threads(os.cpu_count() or 1)
    model, largest = shipped(name), {}
    for images in public_test.images.split(256):
        for layer, value in peaks(model, images.float() / 255).items():
            largest[layer] = max(largest.get(layer, 0.0), value)
    layer = max(largest, key=lambda name: largest[name])
    print(f"{name}: {largest[layer]:.0f} in {layer}")
    # LIMIT is for what batch-norms let expect; images may go beyond, far from what half precision cannot hold.
    assert largest[layer] <= torch.finfo(torch.float16).max / 4
