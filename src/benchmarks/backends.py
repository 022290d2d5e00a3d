"""Predict suite, first part: what can run the shipped weights, alone and in batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.benchmarks.measure import Row, against, scratch_folder, time_rounds
from src.inference.backend import TorchBackend
from src.inference.choice import load_backend
from src.inference.onnx_backend import OnnxBackend
from src.models.classifier import ExpressionClassifier
from src.models.compiled import compile_for_prediction
from src.models.onnx_metadata import onnx_beside
from src.models.weights import build_from_weights, load_weights
from src.utils.extras import require_extra
from src.utils.paths import ROOT
from src.utils.precision import native_bf16

SUITE = "predict"
SHIPPED = ("emonet_fer", "emonet_fer_small")
BATCHES = (1, 16, 64)
BASELINE = "PyTorch, eager float32, NCHW"
Task = Callable[[], Any]


def backend_rows(rounds: int) -> list[Row]:
    """Measure both shipped weights on random images of 64 px in everything that can run them.

    Args:
        rounds: Rounds that count.
    """
    return [row for name in SHIPPED for batch in BATCHES for row in _rows(name, batch, rounds)]


def _rows(name: str, batch: int, rounds: int) -> list[Row]:
    weights = ROOT / "pretrained" / f"{name}.safetensors"
    model = build_from_weights(load_weights(weights)).eval()
    images = torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prefix = f"{name}, {'alone' if batch == 1 else f'batches of {batch}'}: "
    with scratch_folder() as scratch:
        folder = Path(scratch)
        tasks = _torch_tasks(model, images, folder) | _onnx_tasks(model, weights, images, folder)
        chosen = load_backend("auto", str(weights))
        tasks["backend=auto"] = lambda: chosen(images)
        named = {prefix + kind: task for kind, task in tasks.items()}
        times = time_rounds(named, rounds)
    rows = against(SUITE, prefix + BASELINE, times)
    return [replace(row, note=f"{1000 * row.seconds / batch:.3g} ms a face") for row in rows]


def _torch_tasks(model: ExpressionClassifier, images: Tensor, folder: Path) -> dict[str, Task]:
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)

    def eager() -> None:
        with torch.inference_mode():
            plain(images)

    single = TorchBackend(copy.deepcopy(model), device="cpu", precision="32-true")
    tasks: dict[str, Task] = {BASELINE: eager, "PyTorch, float32, channels last": lambda: single(images)}
    compiled = copy.deepcopy(model)
    options = {"n_images": 10**9, "image_size": 64, "batch_size": len(images), "precision": "32-true"}
    if compile_for_prediction(compiled, "auto", cache=folder, **options) is not None:  # type: ignore[arg-type]
        fast = TorchBackend(compiled, device="cpu", precision="32-true")
        tasks["PyTorch, float32, compiled"] = lambda: fast(images)
    if native_bf16():
        half = TorchBackend(copy.deepcopy(model), device="cpu", precision="bf16-mixed")
        tasks["PyTorch, bf16"] = lambda: half(images)
    return tasks


def _onnx_tasks(model: ExpressionClassifier, weights: Path, images: Tensor, folder: Path) -> dict[str, Task]:
    require_extra("export")
    # Seconds of imports, for who measures something else.
    from src.exporting.deployed import DeployedModel
    from src.exporting.onnx_files import export_fp32, save

    deployed = DeployedModel(model)
    save(export_fp32(deployed), folder / "fp32.onnx", deployed, "fp32")
    exact = OnnxBackend(str(folder / "fp32.onnx"), device="cpu")
    coarse = OnnxBackend(str(onnx_beside(weights, "int8")), device="cpu")
    return {
        "ONNX Runtime, fp32": lambda: exact(images),
        "ONNX Runtime, int8": lambda: coarse(images),
    }
