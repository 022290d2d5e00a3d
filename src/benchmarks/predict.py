"""Predict suite: crops in batches against one by one, and the memory of long videos."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.benchmarks.backends import backend_rows
from src.benchmarks.film import draw_film
from src.benchmarks.measure import Row, compare, scratch_folder, summarize
from src.data.faces.generator import draw_face
from src.inference.backend import TorchBackend
from src.inference.crop import to_tensor
from src.models.classifier import ExpressionClassifier
from src.models.emonet import EmoNet
from src.models.spec import ModelSpec
from src.models.weights import save_safetensors
from src.utils.paths import ROOT

SUITE = "predict"
IMAGE_SIZES = (256, 64)
N_CROPS = 32
# Lengths of the videos whose memory is compared.
N_FRAMES = (1_000, 10_000)
FRAME_SIZE = 128
# Predicts, then prints its largest resident memory.
PROBE = """
import runpy
runpy.run_module("src.predict", run_name="__main__", alter_sys=True)
from src.benchmarks.film import draw_film
from src.benchmarks.measure import peak_memory
print(peak_memory())
"""


def predict_suite(cfg: DictConfig) -> list[Row]:
    """Measure what can run the shipped weights, full-size crops against the demo's way, then the memory of videos.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    return [*backend_rows(cfg.rounds), *(_crops(image_size, cfg.rounds) for image_size in IMAGE_SIZES), *_memory()]


def _crops(image_size: int, rounds: int) -> Row:
    """Predict crops as `src.predict` does, and as the demo of EmoNet's authors: one at a time, in float32."""
    images = to_tensor([draw_face(0, i, image_size).image for i in range(N_CROPS)])
    ours = TorchBackend(_classifier(256, image_size, n_hourglass=2))
    plain = EmoNet(8).eval()
    row = compare(
        SUITE,
        f"{N_CROPS} crops of {image_size} px, in a batch",
        lambda: ours(images),
        "one by one in float32",
        _one_by_one(plain, images),
        rounds,
    )
    return replace(row, note=f"{ours.precision}, {N_CROPS / row.seconds:.0f} crops/s")


def _one_by_one(model: nn.Module, images: Tensor) -> Callable[[], Any]:
    def run() -> None:
        with torch.no_grad():
            for i in range(len(images)):
                model(images[i : i + 1])

    return run


def _memory() -> list[Row]:
    """Predict a short and a long video, each in a process of its own, annotation and all."""
    rows: list[Row] = []
    shortest: float | None = None
    with scratch_folder() as name:
        folder = Path(name)
        save_safetensors(_classifier(16, 64, n_hourglass=1), folder / "model.safetensors")
        for n in N_FRAMES:
            film = draw_film(folder / f"film_{n}", n, FRAME_SIZE, FRAME_SIZE)
            seconds, peak = _predict(film, folder / "model.safetensors", folder / f"run_{n}")
            note = "this system does not say how much memory it took" if peak is None else f"peak memory {peak:.0f} MiB"
            if peak and shortest:
                note += f", {peak / shortest:.2f} times that of {N_FRAMES[0]:,} frames"
            shortest = shortest or peak
            rows.append(summarize(SUITE, f"a video of {n:,} frames", [seconds], note))
    return rows


def _predict(film: Path, weights: Path, run_dir: Path) -> tuple[float, float | None]:
    """Return the seconds that a prediction takes, and its largest resident memory in MiB, if the system says."""
    options = [f"input={film}", f"ckpt_path={weights}", f"hydra.run.dir={run_dir}"]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROBE, *options], cwd=ROOT, capture_output=True, encoding="locale")
    if done.returncode:
        raise RuntimeError(f"the prediction of {film} ended with {done.returncode}: {done.stderr[-500:]}")
    peak = done.stdout.split()[-1]
    return time.perf_counter() - start, None if peak == "None" else float(peak)


def _classifier(width: int, image_size: int, n_hourglass: int) -> ExpressionClassifier:
    """Return EmoNet with its own head and fresh weights, which take as long as trained ones."""
    spec = ModelSpec(
        backbone={"name": "emonet_scratch", "width": width, "n_hourglass": n_hourglass, "n_blocks": 4},
        head={"name": "emonet", "tap": "pooled", "valence_arousal": True},
        class_names=("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
        image_size=image_size,
        grayscale=False,
        crop="fer2013",
        outputs=("expression", "valence_arousal"),
        trained_on="nothing",
        precision="auto",
    )
    return ExpressionClassifier(spec, spec.build_backbone(), spec.build_head())
