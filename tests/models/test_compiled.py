"""Tests of compiling for prediction: when, for which batches, and what happens where it cannot be done."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from src.engine.build import build_data
from src.models.compiled import CompiledBackbone, compile_for_prediction
from src.models.weights import build_from_weights, load_weights
from src.utils.cpu_precision import autocast
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.running import compose_config

JOB = {"n_images": 10, "image_size": 64, "batch_size": 4, "precision": "32-true"}


@pytest.fixture
def compiler(monkeypatch):
    """Stand in for the compiler: keep modules as they are, and remember the batches."""
    seen = []

    def compile_(module: nn.Module):
        def run(image):
            assert torch.is_inference_mode_enabled()
            seen.append((len(image), image.is_contiguous(memory_format=torch.channels_last)))
            return module(image)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setenv("CXX", "python3")  # any program that exists
    return seen


@pytest.fixture
def model(make_classifier):
    return make_classifier().eval()


def test_batches_of_any_size_are_one_size_for_the_compiler(model, compiler):
    compiled = CompiledBackbone(model.backbone, "fused", 4, heatmaps=True)
    image = torch.rand(11, 3, 64, 64)
    with torch.no_grad():
        features, heatmaps = compiled(image)
        expected, expected_heatmaps = model.backbone.fuse(image)
        torch.testing.assert_close(features, expected)
        torch.testing.assert_close(heatmaps, expected_heatmaps[-1:])
        assert compiled(image[:0])[0].shape == (0, 16, 16, 16)
    assert set(compiler) == {(4, True)}


def test_only_predictions_are_compiled(model, compiler, tmp_path):
    image = torch.rand(4, 3, 64, 64)
    compile_for_prediction(model, True, **JOB, cache=tmp_path)
    n = len(compiler)
    model(image).logits.sum().backward()
    assert len(compiler) == n
    with torch.no_grad():
        model(image)
    assert len(compiler) == n + 1


@pytest.mark.parametrize(
    ("choice", "n_images", "precision", "expected"),
    [
        ("auto", 10**9, "32-true", True),
        ("auto", 100, "32-true", False),
        (True, 1, "bf16-mixed", True),
        (False, 10**9, "32-true", False),
    ],
)
def test_auto_goes_by_the_size_of_the_job(model, compiler, tmp_path, choice, n_images, precision, expected):
    job = {**JOB, "n_images": n_images, "precision": precision}
    seconds = compile_for_prediction(model, choice, **job, cache=tmp_path)
    assert (seconds is not None) == expected
    n = len(compiler)
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))
    assert (len(compiler) > n) == expected


def test_without_a_compiler(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"compile=true, but .*no C\+\+ compiler.*compile=false"):
        compile_for_prediction(model, True, **JOB, cache=tmp_path)
    compile_for_prediction(model, "auto", **{**JOB, "n_images": 10**9}, cache=tmp_path)
    assert "not compiled (no C++ compiler" in caplog.text
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).logits.shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_the_real_compiler_agrees(model, tmp_path, precision, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    image = torch.rand(6, 3, 64, 64)
    with torch.no_grad(), autocast("cpu", precision):
        expected = model(image).logits.float()
        compile_for_prediction(model, True, **{**JOB, "precision": precision}, cache=tmp_path)
        found = model(image).logits.float()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert any(tmp_path.iterdir())
    bound = {"32-true": 1e-4, "bf16-mixed": 0.02, "16-mixed": 0.005}[precision]
    assert (found - expected).abs().max() <= bound * (expected.max() - expected.min())


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="FER2013_PATH is not set")
@pytest.mark.parametrize(("side", "n"), [(64, 3589), (256, 64)])
def test_it_agrees_with_float32_on_real_images(tmp_path, data_dir, side, n):
    """What PublicTest's images are taken for, in float32 and, compiled, in bf16."""
    options = ["data=fer2013", f"data.path={os.environ['FER2013_PATH']}", f"data_dir={data_dir}"]
    cfg = compose_config("eval", *options, f"run_dir={tmp_path}")
    torch.set_num_threads(2)
    model = build_from_weights(load_weights(ROOT / "pretrained" / "emonet_fer.safetensors")).eval()
    options = {"image_size": side, "grayscale": True, "class_names": model.spec.class_names}
    data = build_data(cfg, transform={"name": "none"}, **options)
    rows, labels, _ = data.split_rows("val")

    def logits(precision):
        with torch.inference_mode(), autocast("cpu", precision):
            batches = np.array_split(rows[:n], -(-n // 64))
            return torch.cat([model(data.plain_images(batch)["image"]).logits.float() for batch in batches])

    expected = logits("32-true")
    job = {
        "n_images": n,
        "image_size": side,
        "batch_size": 64 if side == 64 else 16,
        "precision": "bf16-mixed",
    }
    compile_for_prediction(model, True, **job, cache=tmp_path)
    found = logits("bf16-mixed")
    error = float((found - expected).abs().max() / (expected.max() - expected.min()))
    agreement = float((found.argmax(1) == expected.argmax(1)).float().mean())
    ours, theirs = ((x.argmax(1).numpy() == labels[:n]).mean() for x in (found, expected))
    print(f"{side} px: largest error {error:.4f}, agreement {agreement:.4f}, accuracy {ours:.4f}, {theirs:.4f}")
    assert error <= 0.02
    if n == len(rows):
        assert agreement >= 0.995
        assert abs(ours - theirs) <= 0.003
