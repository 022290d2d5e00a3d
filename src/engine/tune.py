"""What Lightning's tuner finds out before a training: a learning rate, or the largest batch that fits."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.tuner.tuning import Tuner
from rich.console import Console
from scipy.ndimage import gaussian_filter1d
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from src.data.datamodule import StoreDataModule
from src.engine.build import build_trainer, choose_precision
from src.engine.feature_cache import with_cached_features
from src.engine.fit import build_model_and_data
from src.engine.load import starting_weights
from src.models.classifier import ExpressionClassifier
from src.models.registry import load_plugins
from src.reports.plots import lr_finder_plot
from src.runs import layout
from src.utils.atomic_files import atomic_write
from src.utils.errors import ConfigError

Floats = NDArray[np.float64]

STEPS = 100
# Lightning's, of the running mean that it keeps.
BETA = 0.98
RATES = (1e-6, 1.0)
# Steps over which the loss, noisy from one batch to the next, is smoothed: the sigma of a Gaussian.
SMOOTHING = 3.0
# How many times its noise the smoothed loss has to fall.
CLEAR = 10.0
# Batch-norm needs two images. A GPU says when its memory is full; a CPU takes the swap space first, and then the system
# ends some process, so that fewer are tried: as many at 64 px, fewer at larger sides.
SMALLEST, LARGEST_ON_GPU, LARGEST_ON_CPU = 2, 8192, 256
# Without validation, checkpoints and a bar of its own; and without a cache that is computed for these few steps.
OPTIONS = {
    "check_val_every_n_epoch": STEPS + 1,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "limit_train_batches": STEPS,
}


def tune(cfg: DictConfig) -> None:
    """Search what `tune` names, print it with the command that trains with it, and train nothing.

    Args:
        cfg: Configuration of `conf/train.yaml`.

    Raises:
        ConfigError: If something in the configuration cannot work.
    """
    _check(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    load_plugins(cfg.plugins)
    start = starting_weights(cfg.backbone.weights, cfg.backbone.sha256)
    precision = choose_precision(cfg)
    cfg = cfg.copy()
    with open_dict(cfg):
        OmegaConf.update(cfg, "trainer", OPTIONS)
        if cfg.tune == "batch_size":
            # Lightning would try what is set here first, and take it for its own first size.
            cfg.data.batch_size = SMALLEST
    # The tuner takes all callbacks away, those that average weights or mix targets, too.
    trainer = build_trainer(cfg, [], [], precision, max_epochs=STEPS)
    if trainer.world_size > 1:
        raise ConfigError(f"tune={cfg.tune} with {trainer.world_size} processes; set trainer.devices=1.")
    model, data = build_model_and_data(cfg, start, precision)
    data = with_cached_features(cfg, model, data, trainer)
    # It would say that a full run follows, and how it reads its own file.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    search = {"lr": _find_learning_rate, "batch_size": _find_batch_size}[cfg.tune]
    console = Console(stderr=True, markup=False)
    for line in search(cfg, trainer, model, data):
        console.print(line, soft_wrap=True, highlight=False)


def _check(cfg: DictConfig) -> None:
    if cfg.ckpt_path is not None:
        raise ConfigError(
            f"tune={cfg.tune} with ckpt_path={cfg.ckpt_path}; expected a training from its start. Leave ckpt_path out, "
            "or start from its weights: backbone.weights=<the run>."
        )
    if cfg.trainer.fast_dev_run:
        raise ConfigError(
            f"tune={cfg.tune} with trainer.fast_dev_run={cfg.trainer.fast_dev_run}; leave one of them out."
        )


def _find_learning_rate(
    cfg: DictConfig, trainer: Trainer, model: ExpressionClassifier, data: StoreDataModule
) -> list[str]:
    """Train for some steps at rates that rise from one to the next, and draw the loss over them."""
    with _backbone_rates(cfg.backbone.lr_multiplier):
        finder = Tuner(trainer).lr_find(
            model, datamodule=data, min_lr=RATES[0], max_lr=RATES[1], num_training=STEPS, update_attr=False
        )
    if finder is None:
        raise ConfigError("tune=lr found nothing; leave trainer.fast_dev_run out.")
    rates, losses = finder.results["lr"], batch_losses(finder.results["loss"])
    best, smooth = steepest_fall(rates, losses)
    path = Path(cfg.run_dir) / layout.LR_FINDER
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as scratch:
        lr_finder_plot(rates, losses, smooth, best).savefig(scratch, dpi=120, format="png")
    end = "" if len(rates) == STEPS else ", where the loss had grown fourfold"
    lines = [f"Learning rate: {len(rates)} steps from {rates[0]:.1e} to {rates[-1]:.1e}{end}", f"  figure: {path}"]
    if best is None:
        return [
            *lines,
            "  The loss falls nowhere clearly: look at the figure, or set a larger data.batch_size.",
        ]
    return [
        *lines,
        f"  The loss falls fastest at {best:.1e}.",
        f"  Train with it: {_command(f'optimizer.lr={best:.1e}')}",
    ]


def batch_losses(means: Sequence[float]) -> Floats:
    """Return the loss of each batch from Lightning's running means of them, whose delay would shift the curve.

    Args:
        means: Of t losses each: m = 0.98 m + 0.02 loss, over 1 - 0.98^(t + 1).
    """
    sums = np.asarray(means, dtype=np.float64) * (1 - BETA ** np.arange(2, len(means) + 2))
    return np.asarray((sums - BETA * np.concatenate([[0.0], sums[:-1]])) / (1 - BETA))


def steepest_fall(rates: Sequence[float], losses: Floats) -> tuple[float | None, Floats]:
    """Return the learning rate at which the loss falls fastest per decade (L. N. Smith, WACV 2017).

    Lightning's own suggestion divides by the difference of rates, not of their logarithms, and so takes noise at the
    smallest rates for the steepest fall (its issue 21141).

    Args:
        rates: Learning rates, the same factor apart, (N,).
        losses: Loss of the batch at each, (N,).

    Returns:
        The rate, None if the loss falls no further than it varies from batch to batch; and the smoothed losses, (M,),
        those before the first that is not finite.
    """
    finite = np.isfinite(losses)
    losses = losses if finite.all() else losses[: int(finite.argmin())]
    if len(losses) < 2:
        return None, losses
    smooth = gaussian_filter1d(losses, SMOOTHING, mode="nearest")
    # A Gaussian takes the mean of 2 sqrt(pi) sigma values.
    noise = np.std(losses[: len(losses) // 2] - smooth[: len(losses) // 2]) / np.sqrt(2 * np.sqrt(np.pi) * SMOOTHING)
    lowest = int(smooth.argmin())
    if smooth[: lowest + 1].max() - smooth[lowest] < CLEAR * noise:
        return None, smooth
    return float(rates[int(np.gradient(smooth)[: lowest + 1].argmin())]), smooth


@contextmanager
def _backbone_rates(multiplier: float) -> Iterator[None]:
    """Keep the backbone's rate that many times the head's: the finder gives all parameters the same one."""

    def scale(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            if group["name"].startswith("backbone"):
                group["lr"] *= multiplier  # the finder's schedule sets it anew after each step

    hook = register_optimizer_step_pre_hook(scale)
    try:
        yield
    finally:
        hook.remove()


def _find_batch_size(
    cfg: DictConfig, trainer: Trainer, model: ExpressionClassifier, data: StoreDataModule
) -> list[str]:
    """Double the batch until memory is full, or a bound is reached."""
    n, on_cpu = len(data.split_rows("train")[0]), trainer.strategy.root_device.type == "cpu"
    most = LARGEST_ON_CPU * 64**2 // data.image_size**2 if on_cpu else LARGEST_ON_GPU
    # Powers of two that leave an image over: of batches that hold all images, Lightning halves none.
    bound = 2 ** (min(most, n - 1).bit_length() - 1)
    if bound < SMALLEST:
        raise ConfigError(f"tune=batch_size with {n} training images; expected 3 or more.")
    # It returns the first size that is not tried any more, or the last one that fits.
    found = Tuner(trainer).scale_batch_size(model, datamodule=data, init_val=SMALLEST, max_val=2 * bound) or bound
    largest = min(found, bound)
    if largest < bound:
        reason = "twice as many images do not fit into memory"
    elif bound * 2 > n - 1:
        reason = f"the training split has {n} images"
    elif on_cpu:
        reason = "no more are tried on a CPU, where memory that is full is no error but the end of a process"
    else:
        reason = "no more are tried"
    return [
        f"Batch size: {largest} is the largest that fits of 2, 4, 8 and so on; {reason}.",
        "  Larger batches make fewer steps an epoch: the learning rate has to grow with them (tune=lr).",
        f"  Train with it: {_command(f'data.batch_size={largest}')}",
    ]


def _command(option: str) -> str:
    """Return this command with an option in the place of the search."""
    key = option.split("=")[0]
    given = [o for o in HydraConfig.get().overrides.task if o.lstrip("+").split("=")[0] not in ("tune", key)]
    return shlex.join(["python", "-m", "src.train", *given, option])
