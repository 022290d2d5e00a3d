"""Searches before a training: what is found, and that nothing of the search stays."""

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.tuner.lr_finder import _LRCallback
from torch.optim.optimizer import register_optimizer_step_post_hook

from src.cli.validation import validate_config
from src.engine import tune as tuning
from src.engine.tune import batch_losses, steepest_fall, tune
from src.models.classifier import ExpressionClassifier
from src.utils.errors import ConfigError
from tests.helpers.running import tiny_config

RATES = list(np.logspace(-6, 0, 100))


@pytest.fixture
def search(tmp_path, data_dir, monkeypatch):
    """Return a function that searches in a run directory, and what it has printed and trained with."""
    monkeypatch.setattr(tuning, "STEPS", 12)
    # It would look through all that pytest holds, for half a second a trial.
    monkeypatch.setattr("pytorch_lightning.tuner.batch_size_scaling.garbage_collection_cuda", lambda: None)
    seen, lines, memory = [], [], []
    original = ExpressionClassifier.training_step

    def watch(self, batch, batch_idx):
        rates = {group["name"]: group["lr"] for group in self.trainer.optimizers[0].param_groups}
        seen.append((len(batch["label"]), rates))
        if memory[-1] and len(batch["label"]) > memory[-1]:
            raise RuntimeError("CUDA out of memory.")
        return original(self, batch, batch_idx)

    class Console:
        def __init__(self, **_): ...

        def print(self, line, **_):
            lines.append(line)

    monkeypatch.setattr(ExpressionClassifier, "training_step", watch)
    monkeypatch.setattr(tuning, "Console", Console)

    def run(*options, limit=None):
        memory.append(limit)
        cfg = tiny_config(tmp_path, data_dir, *options)
        validate_config(cfg)
        tune(cfg)
        return "\n".join(lines), seen

    return run


def left_over(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_learning_rate_is_searched_and_nothing_is_trained(search, tmp_path):
    """With a frozen backbone's features, averaged weights and a schedule, none of which takes part."""
    steps = []
    hook = register_optimizer_step_post_hook(
        lambda optimizer, *_: steps.append({group["name"]: group["lr"] for group in optimizer.param_groups})
    )
    try:
        options = ["callbacks=ema", "scheduler=one_cycle", "optimizer.lr=0.5", "backbone.lr_multiplier=0.1"]
        text, seen = search("tune=lr", *options)
    finally:
        hook.remove()
    assert left_over(tmp_path) == ["figures/lr_finder.png"]
    with Image.open(tmp_path / "figures" / "lr_finder.png") as drawn:
        assert drawn.width > 400
    heads = [rates["head"] for rates in steps]
    assert heads[0] == pytest.approx(1e-6)
    assert np.all(np.diff(heads) > 0)
    assert [rates["backbone"] for rates in steps] == pytest.approx([0.1 * rate for rate in heads])
    assert len(seen) == len(heads) <= 12
    assert "lr_finder.png" in text
    assert "python -m src.train" in text or "falls nowhere clearly" in text


@pytest.mark.slow
@pytest.mark.parametrize("n", [17, 26])
def test_a_batch_size_is_searched_below_the_size_of_the_training_split(search, tmp_path, n):
    text, seen = search("tune=batch_size", "scheduler=one_cycle", f"data.n_train={n}")
    assert text.startswith(f"Batch size: 16 is the largest that fits of 2, 4, 8 and so on; the training split has {n}")
    assert "data.batch_size=16" in text
    assert {size for size, _ in seen} >= {2, 4, 8, 16}
    assert max(size for size, _ in seen) == 16
    assert left_over(tmp_path) == []


def test_a_full_memory_halves_the_batch(search):
    text, seen = search("tune=batch_size", limit=4)
    assert text.startswith("Batch size: 4 is the largest that fits of 2, 4, 8 and so on; twice as many images do not")
    assert max(size for size, _ in seen) == 8


@pytest.mark.slow
def test_the_processor_is_spared(search, monkeypatch):
    monkeypatch.setattr(tuning, "LARGEST_ON_CPU", 4)
    text, seen = search("tune=batch_size")
    assert text.startswith("Batch size: 4 is the largest that fits")
    assert "no more are tried on a CPU" in text
    assert max(size for size, _ in seen) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["tune=rate"], "tune=rate; expected one of null, lr, batch_size"),
        (["tune=lr", "ckpt_path=last"], "tune=lr with ckpt_path=last; expected a training from its start"),
        (["tune=lr", "trainer.fast_dev_run=true"], "tune=lr with trainer.fast_dev_run=True"),
        (["tune=batch_size", "trainer=ddp_cpu"], "tune=batch_size with 2 processes; set trainer.devices=1"),
        (["tune=batch_size", "data.n_train=2"], "tune=batch_size with 2 training images; expected 3 or more"),
    ],
)
def test_what_cannot_be_searched_is_refused(search, options, message):
    with pytest.raises(ConfigError, match=message):
        search(*options)


def test_losses_of_batches_come_back_from_lightnings_means():
    """The reference is Lightning's own callback."""
    losses = np.random.default_rng(0).uniform(1, 3, 40)
    callback = _LRCallback(40, early_stop_threshold=None)

    class Trainer:
        accumulate_grad_batches = 1
        should_stop = False

        class strategy:
            @staticmethod
            def broadcast(value):
                return value

        class fit_loop:
            batch_idx = 0

    for step, loss in enumerate(losses, start=1):
        Trainer.global_step = step
        callback.on_train_batch_end(Trainer, None, torch.tensor(loss, dtype=torch.float64), None, 0)
    assert batch_losses(callback.losses) == pytest.approx(losses)


def curve(noise=0.02, lowest=-2.0):
    """Losses that fall fastest at 1e-3, are lowest at 10^lowest, and then explode."""
    decades = np.log10(RATES)
    fall = 2 - 1 / (1 + np.exp(-4 * (decades + 3)))
    return fall + 10.0 ** (2 * (decades - lowest - 1)) + np.random.default_rng(0).normal(0, noise, 100)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_the_steepest_fall_is_found_in_noise(noise):
    best, smooth = steepest_fall(RATES, curve(noise))
    assert 10**-3.5 < best < 10**-2.5
    assert len(smooth) == 100


def test_what_is_no_number_ends_the_curve():
    losses = curve()
    losses[80:] = np.nan
    best, smooth = steepest_fall(RATES, losses)
    assert 10**-3.5 < best < 10**-2.5
    assert len(smooth) == 80
    assert steepest_fall(RATES, np.full(100, np.nan))[0] is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_fall(seed):
    assert steepest_fall(RATES, np.random.default_rng(seed).normal(2, 0.1, 100))[0] is None
    assert steepest_fall(RATES, np.linspace(1, 2, 100))[0] is None
