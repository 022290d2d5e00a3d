"""Tests of the backbone: parity with the authors' outputs, taps, arguments, freezing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.models.emonet import FREEZE_LEVELS, TAPS, EmoNet, EmoNetOutput, tap_side
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from tests.models.reference import reference_images, reference_state

FIXTURE = Path(__file__).parents[1] / "fixtures" / "emonet_golden.npz"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# SHA-256 of the sorted "key:shape" lines of the official state dicts.
OFFICIAL_KEYS = {
    5: "765f5c1b71946595cc20a541dada95c44314ab19b9f8b77ac7e41e214fb506dd",
    8: "d4e5b303d86faafd808984b69994b4dc5ae0ac456007020adda3e96736a7a9f3",
}
reference_folder = os.environ.get("EMONET_REFERENCE")
needs_reference = pytest.mark.skipif(not reference_folder, reason="EMONET_REFERENCE is not set")


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in model.state_dict().items()}


def reference_emonet(n_expression: int, dtype: torch.dtype) -> EmoNet:
    model = EmoNet(n_expression).double()
    model.load_state_dict(reference_state(shapes_of(model)))
    return model.to(dtype).eval()


def run_with_maps(model: EmoNet, images: Tensor) -> tuple[EmoNetOutput, dict[str, Tensor]]:
    """Run the network once and return its outputs, and the maps of two taps."""
    maps: dict[str, Tensor] = {}
    hooks = [
        model.conv1x1_input_emo_2.register_forward_hook(lambda module, args, out: maps.update(fused=out)),
        model.emo_net_2[-1].register_forward_hook(lambda module, args, out: maps.update(emotion=out)),
    ]
    with torch.no_grad():
        output = model(images)
    for hook in hooks:
        hook.remove()
    return output, maps


def assert_close_to_largest(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest magnitude of the expected output."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.double().numpy() - expected).max()
    assert difference <= tolerance * np.abs(expected).max()


@contextmanager
def last_heatmap(model: EmoNet) -> Iterator[list[Tensor]]:
    captured: list[Tensor] = []
    layer = model.get_submodule(f"l{model.n_hourglass - 1}")
    hook = layer.register_forward_hook(lambda module, args, out: captured.append(out))
    yield captured
    hook.remove()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_expression", OFFICIAL_KEYS)
def test_outputs_equal_the_authors(n_expression: int, dtype: torch.dtype) -> None:
    output, maps = run_with_maps(reference_emonet(n_expression, dtype), reference_images(1).to(dtype))
    actual = {
        f"expression_{n_expression}": output.expression,
        f"valence_{n_expression}": output.valence,
        f"arousal_{n_expression}": output.arousal,
        "heatmap_mean": output.heatmap.mean(dim=(2, 3)),
        "fused_mean": maps["fused"].mean(dim=(2, 3)),
        "fused_corner": maps["fused"][:, :4, :4, :4],
        "pooled": maps["emotion"].mean(dim=(2, 3)),
    }
    golden = np.load(FIXTURE)
    for name, value in actual.items():
        assert_close_to_largest(value, golden[name], TOLERANCE[dtype])


@needs_reference
@pytest.mark.parametrize("n_expression", OFFICIAL_KEYS)
def test_outputs_equal_the_full_reference(n_expression: int) -> None:
    golden = np.load(Path(reference_folder) / f"emonet_golden_{n_expression}.npz")
    output, maps = run_with_maps(reference_emonet(n_expression, torch.float64), reference_images(2))
    peak = output.heatmap.flatten(2).argmax(dim=2)
    side = output.heatmap.shape[-1]
    actual = {
        "expression": output.expression,
        "valence": output.valence,
        "arousal": output.arousal,
        "emotion": maps["emotion"],
        "fused_mean": maps["fused"].mean(dim=(2, 3)),
        "fused_corner": maps["fused"][:, :8, :4, :4],
        "heatmap_mean": output.heatmap.mean(dim=(2, 3)),
        "heatmap_corner": output.heatmap[:, :8, :4, :4],
        "landmark_x": peak % side,
        "landmark_y": peak // side,
    }
    assert actual.keys() == set(golden)
    for name, value in actual.items():
        assert_close_to_largest(value, golden[name], TOLERANCE[torch.float64])


@needs_reference
@pytest.mark.parametrize("n_expression", OFFICIAL_KEYS)
def test_state_dict_equals_the_official_listing(n_expression: int) -> None:
    listing = Path(reference_folder) / f"emonet_state_{n_expression}.json"
    assert shapes_of(EmoNet(n_expression)) == json.loads(listing.read_text())


@pytest.mark.parametrize("n_expression", OFFICIAL_KEYS)
def test_state_dict_has_the_official_keys_and_no_others(n_expression: int) -> None:
    shapes = shapes_of(EmoNet(n_expression))
    lines = "\n".join(sorted(f"{key}:{shape}" for key, shape in shapes.items()))
    assert len(shapes) == 682
    assert hashlib.sha256(lines.encode()).hexdigest() == OFFICIAL_KEYS[n_expression]


def test_published_size() -> None:
    model = EmoNet(8)
    emotion = ("conv1x1_input_emo_2", "emo_net_2", "emo_fc_2")
    fan = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(emotion))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(13.96e6, abs=5e3)
    assert fan == pytest.approx(12.11e6, abs=5e3)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_taps_have_their_shapes(side: int) -> None:
    model = EmoNet(None, width=16, n_hourglass=1).eval()
    sides = {"fused": side // 4, "emotion2": side // 16, "emotion": side // 64}
    with torch.no_grad():
        for tap in TAPS:
            shape = (2, 16) if tap == "pooled" else (2, 16, sides[tap], sides[tap])
            assert model.features(torch.rand(2, 3, side, side), tap).shape == shape
            assert tap_side(tap, side) == sides.get(tap, 1)


def test_forward_and_features_agree() -> None:
    model = EmoNet(7, width=16, n_hourglass=2).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        output = model(images)
        from_tap = model.emo_fc_2(model.features(images, "pooled"))
        from_map = model.emo_fc_2(model.features(images, "emotion").mean(dim=(2, 3)))
    assert output.expression.shape == (2, 7)
    assert output.heatmap.shape == (2, 68, 16, 16)
    joined = torch.cat((output.expression, output.valence[:, None], output.arousal[:, None]), dim=1)
    torch.testing.assert_close(from_tap, joined)
    torch.testing.assert_close(from_map, joined)


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 32), (1, 3, 100, 100), (1, 3, 64, 128), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 0)]
)
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"multiple of 64.*data\.image_size"):
        EmoNet(None, width=16, n_hourglass=1).features(torch.zeros(shape))


@pytest.mark.parametrize(("width", "n_hourglass", "n_blocks"), [(16, 1, 2), (32, 3, 3), (48, 2, 4)])
def test_architecture_arguments(width: int, n_hourglass: int, n_blocks: int) -> None:
    model = EmoNet(7, width, n_hourglass, n_blocks).eval()
    assert sum(1 for name, _ in model.named_children() if name.startswith("top_m_")) == n_hourglass
    with torch.no_grad():
        emotion = model.features(torch.rand(1, 3, 64, 64), "emotion")
        assert model(torch.rand(1, 3, 64, 64)).expression.shape == (1, 7)
    assert emotion.shape == (1, width, 16 // 2**n_blocks, 16 // 2**n_blocks)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("width", 0), ("width", 8), ("width", 40), ("n_hourglass", 0), ("n_blocks", 1), ("n_blocks", 5)],
)
def test_refuses_impossible_architectures(argument: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"backbone\.{argument}={value}; expected"):
        EmoNet(8, **{argument: value})


def test_unknown_tap_and_freeze_level_are_refused() -> None:
    model = EmoNet(None, width=16, n_hourglass=1).eval()
    with pytest.raises(ConfigError, match=r"head\.tap='heatmap'.*fused, emotion2, emotion, pooled"):
        model.features(torch.zeros(1, 3, 64, 64), "heatmap")
    with pytest.raises(ConfigError, match=r"backbone\.freeze='half'.*all, fused, fan, none"):
        model.freeze("half")


def test_backbone_without_classifier_says_so() -> None:
    with pytest.raises(RuntimeError, match="features"):
        EmoNet(None, width=16, n_hourglass=1)(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(("width", "n_hourglass"), [(32, 1), (64, 2)])
def test_mask_starts_near_one(width: int, n_hourglass: int) -> None:
    model = EmoNet(None, width=width, n_hourglass=n_hourglass)
    with last_heatmap(model) as heatmaps, torch.no_grad():
        model.features(torch.rand(4, 3, 64, 64), "fused")
    mask = heatmaps[0].sum(dim=1)
    assert mask.mean().item() == pytest.approx(1, abs=0.1)
    assert mask.std().item() < 0.3


@pytest.mark.parametrize("level", FREEZE_LEVELS)
def test_freezing_holds_in_training_mode(level: str) -> None:
    model = EmoNet(None, width=16, n_hourglass=1)
    model.freeze(level)
    model.eval()
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    features = model.features(torch.rand(4, 3, 128, 128), "emotion")
    if level != "all":
        features.sum().backward()
    emotion = ("conv1x1_input_emo_2", "emo_net_2")
    trained = {"all": (), "fused": emotion[1:], "fan": emotion, "none": ("",)}[level]
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]) != name.startswith(trained), name
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(trained), name
        assert (parameter.grad is not None) == name.startswith(trained), name


def test_a_frozen_backbone_gives_the_same_features_in_training_mode() -> None:
    model = EmoNet(None, width=16, n_hourglass=1)
    model.freeze("all")
    images = torch.rand(2, 3, 64, 64)
    evaluated, trained = (model.train(mode).features(images) for mode in (False, True))
    assert torch.equal(evaluated, trained)


@pytest.mark.parametrize(("tap", "n_kept"), [("fused", 0), ("emotion2", 2), ("emotion", 4), ("pooled", 4)])
def test_pruning_drops_the_blocks_after_the_tap(tap: str, n_kept: int) -> None:
    model = EmoNet(None, width=16, n_hourglass=1).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.features(images, tap)
        model.prune(tap)
        assert torch.equal(model.features(images, tap), before)
    kept = {name.split(".")[1] for name in model.state_dict() if name.startswith("emo_net_2.")}
    assert kept == {str(2 * i) for i in range(n_kept)}


def test_normalization_is_imagenets(make_spec, make_classifier):
    models = [make_classifier(make_spec(normalize=name)).eval() for name in ("imagenet", None)]
    models[1].load_state_dict(models[0].state_dict())
    image = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    shown = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        logits = models[0](image).logits
        assert torch.equal(logits, models[1](shown).logits)
        assert not torch.allclose(logits, models[1](image).logits)
    with pytest.raises(ConfigError, match=r"backbone\.normalize=mean; expected null or one of imagenet"):
        make_classifier(make_spec(normalize="mean"))


def hot(**options: float | None) -> EmoNet:
    """Return a fresh network whose heat maps are in the hundreds, and their sum in the ten thousands."""
    torch.manual_seed(0)
    model = EmoNet(None, width=16, n_hourglass=1, **options).train()  # type: ignore[arg-type]
    with torch.no_grad():
        model.l0.weight.uniform_(0, 100)
    return model


def test_a_limited_mask_keeps_features_within_half_precision():
    """Whatever the heat maps become: without the limit, half precision cannot hold what they gate."""
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        free, limited = (hot(mask_limit=limit).features(images, "pooled") for limit in (None, 16.0))
    assert not bool(free.isfinite().all())
    assert float(limited.abs().max()) < 8192
    with torch.no_grad():
        exact = hot(mask_limit=16.0).features(images, "pooled")
    torch.testing.assert_close(limited.float(), exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))


def test_a_limit_hardly_touches_an_ordinary_mask():
    torch.manual_seed(0)
    model, images = EmoNet(None, width=16, n_hourglass=1, mask_limit=16.0).eval(), torch.rand(2, 3, 64, 64)
    mask = model.fuse(images)[1][-1].sum(dim=1, keepdim=True)
    limited = model._mask(model.fuse(images)[1][-1])
    torch.testing.assert_close(limited, 16 * torch.tanh(mask / 16))
    assert float((limited - mask).abs().max()) < 0.01


@pytest.mark.parametrize("name", ["emonet_scratch", "emonet_small", "emonet_tiny"])
def test_trainings_from_scratch_limit_the_mask(name: str):
    assert load_group("backbone", name)["mask_limit"] == 16


def test_a_mask_learns_at_its_limit():
    """Gradients do not vanish at once: a mask that would be twice the limit can still be unlearned."""
    model = hot(mask_limit=16.0)
    with torch.no_grad():
        model.l0.weight.zero_()
        model.l0.bias.fill_(32 / 68)
    model.features(torch.rand(2, 3, 64, 64), "pooled").sum().backward()
    assert float(model.l0.bias.grad.abs().max()) > 0


@pytest.mark.parametrize(("argument", "value"), [("mask_limit", 0.0), ("mask_limit", -1.0), ("feature_scale", 0.0)])
def test_impossible_ranges_are_refused(argument: str, value: float):
    with pytest.raises(ConfigError, match=f"{argument}={value}; expected a number above 0"):
        EmoNet(None, width=16, **{argument: value})  # type: ignore[arg-type]
