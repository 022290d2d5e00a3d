"""Backbone suite: predictions of a frozen, full-size EmoNet, against the network as it is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from src.benchmarks.measure import Row, against, scratch_folder, time_rounds
from src.models.classifier import ExpressionClassifier
from src.models.compiled import compile_for_prediction
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from src.utils.cpu_precision import autocast
from src.utils.precision import native_bf16

SUITE = "backbone"
IMAGE_SIZE, BATCH = 256, 8
BASELINE = "eager float32, NCHW"


def backbone_suite(cfg: DictConfig) -> list[Row]:
    """Measure predictions of `backbone.weights`, with their own head.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    weights = load_weights(find_checkpoint(str(cfg.backbone.weights), argument="backbone.weights"))
    model = build_from_weights(weights).eval()
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    images = torch.rand(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    channels_last = images.to(memory_format=torch.channels_last)
    tasks = {
        BASELINE: _prediction(plain, images, "32-true"),
        "eager float32, channels last": _prediction(model, channels_last, "32-true"),
    }
    precisions = {"float32": "32-true"}
    if native_bf16():
        precisions["bf16"] = "bf16-mixed"
        tasks["eager bf16, channels last"] = _prediction(model, channels_last, "bf16-mixed")
    notes = {}
    with scratch_folder() as folder:
        for kind, precision in precisions.items():
            compiled = copy.deepcopy(model)
            seconds = compile_for_prediction(
                compiled,
                "auto",
                n_images=10**9,
                image_size=IMAGE_SIZE,
                batch_size=BATCH,
                precision=precision,
                cache=Path(folder),
            )
            if seconds is not None:
                name = f"compiled {kind}"
                tasks[name] = _prediction(compiled, channels_last, precision)
                notes[name] = f"after {seconds:.0f} s of compiling"
        named = {f"{BATCH} images at {IMAGE_SIZE} px, {name}": task for name, task in tasks.items()}
        notes = {f"{BATCH} images at {IMAGE_SIZE} px, {name}": note for name, note in notes.items()}
        baseline = f"{BATCH} images at {IMAGE_SIZE} px, {BASELINE}"
        return against(SUITE, baseline, time_rounds(named, cfg.rounds), notes)


def _prediction(model: ExpressionClassifier, images: Tensor, precision: str) -> Callable[[], Tensor]:
    def predict() -> Tensor:
        with torch.inference_mode(), autocast("cpu", precision):
            logits: Tensor = model(images).logits
            return logits

    return predict
