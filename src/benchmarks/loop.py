"""Loop suite: training steps from scratch, against loops written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from omegaconf import DictConfig
from torch import nn

from src.benchmarks.measure import Row, against, scratch_folder, time_rounds
from src.benchmarks.training import Training, prepare

SUITE = "loop"
BATCH = 64
# Training steps of a round.
N_STEPS = {"emonet_scratch": 4, "emonet_tiny": 24}
PLAIN = "a hand-written loop in eager float32, NCHW"
SAME = "a hand-written loop with the same settings"


def loop_suite(cfg: DictConfig) -> list[Row]:
    """Measure the full-size and the small network.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    rows = []
    with scratch_folder() as folder:
        for backbone, n_steps in N_STEPS.items():
            ours, plain, same = (_training(cfg, folder, backbone, n_steps * BATCH) for _ in range(3))
            plain.model.to(memory_format=torch.contiguous_format)
            name = f"{n_steps} training steps of {BATCH}, {backbone}"
            tasks: dict[str, Callable[[], float]] = {
                name: partial(ours.epoch, True),
                PLAIN: _by_hand(plain, torch.contiguous_format, bf16=False),
                SAME: _by_hand(same, torch.channels_last, bf16=same.bf16),
            }
            times = time_rounds(tasks, cfg.rounds)
            for baseline in (PLAIN, SAME):
                rows.append(against(SUITE, baseline, {key: times[key] for key in (name, baseline)})[0])
    return rows


def _training(cfg: DictConfig, folder: str, backbone: str, n: int) -> Training:
    options = ("backbone.image_size=64", f"data.batch_size={BATCH}", "cache=false")
    return prepare(cfg, folder, n, *options, backbone=backbone, transform="light")


def _by_hand(training: Training, memory_format: torch.memory_format, bf16: bool) -> Callable[[], float]:
    """Return a loop over the same batches: forward, loss, backward, clipping, step."""
    model, data = training.model, training.data
    network = nn.ModuleDict({"backbone": model.backbone, "head": model.head})
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    tap = model.head.tap

    def run() -> float:
        network.train()
        start = time.perf_counter()
        for batch in data.train_dataloader():
            image = (batch["image"].float() / 255).to(memory_format=memory_format)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = loss_of(network["head"](model.backbone.features(image, tap)), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        return time.perf_counter() - start

    return run
