"""Cache suite: a training pass of each head on cached features, against the same pass with the backbone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from omegaconf import DictConfig

from src.benchmarks.measure import Row, against, scratch_folder, time_rounds
from src.benchmarks.training import Training, prepare
from src.engine.build import build_trainer
from src.engine.feature_cache import with_cached_features

SUITE = "cache"
# Training images of a pass.
N_IMAGES = 2048
BATCH = 512
HEADS = (
    *(("linear", "fused"), ("linear_flat", "fused"), ("linear_bottleneck", "fused"), ("self_attention", "fused")),
    *(("multihead", "fused"), ("emonet", "pooled")),
)


def cache_suite(cfg: DictConfig) -> list[Row]:
    """Measure every head at its own tap.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    rows = []
    with scratch_folder() as folder:
        for head, tap in HEADS:
            recomputed = _training(cfg, folder, head)
            cached = _training(cfg, folder, head)
            trainer = build_trainer(cached.cfg, [], [], cached.precision)
            cached = replace(cached, data=with_cached_features(cached.cfg, cached.model, cached.data, trainer))
            n = len(recomputed.data.split_rows("train")[0])
            ours = f"a pass over {n:,} images, head={head} on {tap}, cached"
            baseline = f"the same with the backbone in {'bf16' if cached.bf16 else 'float32'}"
            tasks = {ours: partial(cached.epoch, False), baseline: partial(recomputed.epoch, False)}
            row, slow = against(SUITE, baseline, time_rounds(tasks, cfg.rounds))
            rows.append(replace(row, note=f"baseline {slow.seconds:.3g} s"))
    return rows


def _training(cfg: DictConfig, folder: str, head: str) -> Training:
    options = ("backbone.freeze=all", f"data.batch_size={BATCH}", "cache=true", "trainer.enable_progress_bar=false")
    return prepare(cfg, folder, N_IMAGES, *options, head=head)
