"""Tests that every suite measures what it claims, on next to nothing."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from src.benchmarks import backbone, backends, cache, loop, suites, video
from src.benchmarks.measure import against, summarize
from tests.helpers.running import compose_config


def config(tmp_path, *overrides):
    sizes = ["data.n_train=16", "data.n_val=7", "data.n_test=7"]
    return compose_config("benchmark", "rounds=1", *sizes, f"run_dir={tmp_path}", *overrides)


def test_rows_against_one_baseline():
    rows = against("x", "slow", {"slow": [4.0, 5.0, 6.0], "fast": [1.0]}, {"fast": "warm"})
    assert [(row.name, row.baseline, row.ratio, row.note) for row in rows] == [
        ("fast", "slow", 5.0, "warm"),
        ("slow", None, None, ""),
    ]


def test_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "IMAGE_SIZE", 64)
    monkeypatch.setattr(backbone, "BATCH", 2)
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(shutil, "which", lambda name: name)
    rows = backbone.backbone_suite(config(tmp_path))
    kinds = ["eager float32, channels last", "eager bf16, channels last", "compiled float32", "compiled bf16"]
    assert [row.name for row in rows[:4]] == [f"2 images at 64 px, {kind}" for kind in kinds]
    assert all(row.ratio > 0 and row.baseline.endswith("eager float32, NCHW") for row in rows[:4])
    assert "of compiling" in rows[3].note


def test_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "HEADS", (("linear", "fused"), ("emonet", "pooled")))
    monkeypatch.setattr(cache, "BATCH", 8)
    rows = cache.cache_suite(config(tmp_path, "backbone=emonet_tiny", "backbone.width=16"))
    assert [row.name for row in rows] == [
        "a pass over 16 images, head=linear on fused, cached",
        "a pass over 16 images, head=emonet on pooled, cached",
    ]
    assert all(row.ratio > 0 for row in rows)


def test_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "N_STEPS", {"emonet_tiny": 2})
    monkeypatch.setattr(loop, "BATCH", 8)
    rows = loop.loop_suite(config(tmp_path))
    assert [row.baseline for row in rows] == [loop.PLAIN, loop.SAME]
    assert all(row.name == "2 training steps of 8, emonet_tiny" and row.ratio > 0 for row in rows)


@pytest.mark.slow
def test_backends(monkeypatch):
    monkeypatch.setattr(backends, "SHIPPED", ("emonet_fer_small",))
    monkeypatch.setattr(backends, "BATCHES", (2,))
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    rows = backends.backend_rows(rounds=1)
    kinds = ["PyTorch, float32, channels last", "PyTorch, float32, compiled", "PyTorch, bf16", "ONNX Runtime, fp32"]
    kinds += ["ONNX Runtime, int8", "backend=auto", backends.BASELINE]
    assert [row.name for row in rows] == [f"emonet_fer_small, batches of 2: {kind}" for kind in kinds]
    assert all(row.ratio > 0 for row in rows[:-1])
    assert rows[0].note == f"{500 * rows[0].seconds:.3g} ms a face"


def test_video(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "SHIPPED", ("emonet_fer_small",))
    monkeypatch.setattr(video, "N_FRAMES", 4)
    rows = video.video_suite(SimpleNamespace(rounds=1))
    stages = [
        "decode",
        "detect",
        "crop, predict and track",
        "table",
        "draw",
        "encode",
        "in all, without drawing",
        "in all",
    ]
    assert [row.name for row in rows] == [f"emonet_fer_small: {stage}" for stage in stages]
    seconds = [row.seconds for row in rows]
    assert all(value > 0 for value in seconds)
    assert seconds[-1] == pytest.approx(sum(seconds[:-2]))
    assert seconds[-2] == pytest.approx(sum(seconds[:4]))
    assert "4 faces in 4 frames" in rows[-1].note


@pytest.mark.parametrize("suite", ["backbone", "cache", "data", "loop", "predict", "video", "all"])
def test_every_suite_is_reachable(tmp_path, suite, monkeypatch):
    for name in suites.SUITES:
        monkeypatch.setitem(suites.SUITES, name, lambda cfg, s=name: [summarize(s, "x", [1.0])])
    suites.benchmark(config(tmp_path, f"suite={suite}"))
    table = (tmp_path / "benchmark.md").read_text()
    expected = ["backbone", "cache", "data", "loop", "predict", "video"] if suite == "all" else [suite]
    assert all(f"| {name}: x |" in table for name in expected)
    assert table.count(": x |") == len(expected)
