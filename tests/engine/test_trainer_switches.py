"""Lightning's own switches, alone and in pairs that interact: each ends with numbers, or with one clear line."""

import json

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from src.cli.validation import validate_config
from src.data.sampling import EpochSampler
from src.engine.fit import fit_and_test
from src.models.classifier import ExpressionClassifier
from src.utils.errors import ConfigError
from tests.helpers.running import read_checkpoint, tiny_config

# Tiny data: 26 images, 4 batches an epoch, 2 epochs.
FAST = [
    "trainer.fast_dev_run=true",
    "trainer.limit_train_batches=0",
    "trainer.precision=64-true",
    "trainer.check_val_every_n_epoch=2 scheduler=plateau",
    "~callbacks.best ~callbacks.last ~callbacks.early_stopping ~callbacks.lr_monitor ~callbacks.speed",
    "trainer.profiler=simple trainer.detect_anomaly=true trainer.deterministic=true trainer.num_sanity_val_steps=2",
    "+trainer.val_check_interval=3 trainer.check_val_every_n_epoch=null trainer.accumulate_grad_batches=3",
]
SLOW = [
    "+trainer.enable_checkpointing=false",
    "trainer.limit_val_batches=0 scheduler=plateau",
    "trainer.fast_dev_run=2 scheduler=one_cycle",
    "trainer.fast_dev_run=true callbacks=ema",
    "trainer.fast_dev_run=true scheduler=plateau",
    "trainer.overfit_batches=0.5",
    "trainer.overfit_batches=2 scheduler=one_cycle",
    "trainer.limit_val_batches=0",
    "trainer.limit_test_batches=0",
    "trainer.limit_train_batches=0.5 scheduler=one_cycle",
    "trainer.profiler=advanced",
    "trainer.profiler=pytorch",
    "trainer.precision=64-true transform.mixup=0.5 head.valence_arousal=true",
    "+trainer.max_time=00:00:00:05",
    "+trainer.val_check_interval=0.5",
    "trainer.accumulate_grad_batches=2 scheduler=one_cycle",
    "trainer.devices=auto",
    "monitor=val/loss",
    "~callbacks.reseed",
    "~callbacks.test_table",
    "trainer.check_val_every_n_epoch=3",
    "+trainer.sync_batchnorm=true +trainer.inference_mode=false +trainer.gradient_clip_algorithm=value",
    "+trainer.reload_dataloaders_every_n_epochs=1",
]
LONG = [pytest.param(case, marks=pytest.mark.slow) for case in SLOW]


@pytest.mark.parametrize("switches", [*FAST, *LONG])
def test_a_run_ends_with_numbers(tmp_path, data_dir, switches):
    cfg = tiny_config(tmp_path, data_dir, *switches.split())
    validate_config(cfg)
    results = fit_and_test(cfg)
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() == results.keys()
    assert ("test/accuracy" in results) == ("limit_test_batches=0" not in switches)
    assert ("val/accuracy" in results) == ("limit_val_batches=0" not in switches)
    kept = (tmp_path / "checkpoints" / "last.ckpt").exists()
    none = ("fast_dev", "enable_checkpointing", "limit_train_batches=0 ", ".last")
    assert kept != any(part in f"{switches} " for part in none)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ("trainer.devices=[0]", r"trainer.devices=\[0\].*Use trainer=cpu"),
        ("trainer.devices=0", "trainer.devices=0; expected a number of devices of 1 or more"),
        ("trainer.max_epochs=null", "trainer.max_epochs=None; expected a whole number"),
        ("trainer.precision=16-true", "trainer.precision=16-true; expected one of auto"),
        ("+trainer.barebones=true", "barebones"),
        ("data.classes=[happy]", "data=synthetic has the single class happy; expected two or more"),
        ("optimizer.lr=1e30", "the loss is nan in epoch 0, batch 1: the training has diverged.*Lower optimizer.lr"),
        (
            "scheduler=plateau scheduler.monitor=val/nothing scheduler.mode=max",
            "scheduler.monitor=val/nothing is not logged",
        ),
    ],
)
def test_what_cannot_work_says_so_in_a_line(tmp_path, data_dir, switches, message):
    with pytest.raises(ConfigError, match=message):
        cfg = tiny_config(tmp_path, data_dir, *switches.split())
        validate_config(cfg)
        fit_and_test(cfg)
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_a_step_that_ruins_the_weights_is_not_kept(tmp_path, data_dir, monkeypatch):
    """The last step of an epoch, after a finite loss: validation notices."""
    original = ExpressionClassifier.on_validation_epoch_start

    def ruin(self):
        original(self)
        if self.trainer.current_epoch == 1:
            with torch.no_grad():
                next(self.head.parameters()).fill_(float("nan"))

    monkeypatch.setattr(ExpressionClassifier, "on_validation_epoch_start", ruin)
    with pytest.raises(ConfigError, match="the loss is nan in epoch 1, validation"):
        fit_and_test(tiny_config(tmp_path, data_dir, "trainer.max_epochs=3"))
    assert read_checkpoint(tmp_path)["epoch"] == 0


def test_overfitting_sees_the_same_images_each_epoch(tmp_path, data_dir, monkeypatch):
    seen = []
    original = ExpressionClassifier.training_step

    def watch(self, batch, batch_idx):
        seen.append((batch["row"].tolist(), batch["image"].clone()))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ExpressionClassifier, "training_step", watch)
    fit_and_test(
        tiny_config(tmp_path, data_dir, "trainer.overfit_batches=2", "trainer.max_epochs=3", "transform=strong")
    )
    assert len(seen) == 6
    for first, second in (((0, 2), (2, 4)), ((1, 3), (3, 5)))[:]:
        for a, b in (first, second):
            assert seen[a][0] == seen[b][0]
            assert torch.equal(seen[a][1], seen[b][1])
    assert seen[0][0] != seen[1][0]


def test_a_sampler_that_repeats_is_the_first_epoch_of_one_that_does_not():
    sampler = EpochSampler(9, seed=3, repeat=True)
    sampler.set_epoch(4)
    assert list(sampler) == list(EpochSampler(9, seed=3))


def test_one_cycle_ends_with_the_last_step(tmp_path, data_dir):
    options = ["scheduler=one_cycle", "+trainer.max_steps=6", "trainer.max_epochs=9", "test=false"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options))
    (schedule,) = read_checkpoint(tmp_path)["lr_schedulers"]
    assert schedule["total_steps"] == 6


def test_curves_have_no_numbers_of_epochs_before(tmp_path, data_dir, monkeypatch):
    histories = []
    monkeypatch.setattr("src.callbacks.history.draw_learning_curves", lambda history, folder: histories.append(history))
    options = ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5", "test=false", "scheduler=plateau"]
    figures = [f"callbacks.test_table.writers.{name}=null" for name in ("confusion_matrix", "precision_recall")]
    fit_and_test(tiny_config(tmp_path, data_dir, *options, *figures, "callbacks.gradcam=null", figures=True))
    assert ["val/loss" in epoch for epoch in histories[0]] == [False, True, False, True, False]


def test_a_plateau_moves_after_validations_only(tmp_path, data_dir):
    """With patience 0, every validation without progress halves the rate: those of epochs 2 and 4."""
    options = ["scheduler=plateau", "scheduler.patience=0", "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4"]
    frozen = ["optimizer.lr=1e-12", "backbone.freeze=all", "cache=false", "test=false"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options, *frozen))
    (schedule,) = read_checkpoint(tmp_path)["lr_schedulers"]
    assert schedule["last_epoch"] == 2
    assert np.allclose(schedule["_last_lr"], 0.5e-12)


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine_restarts"])
def test_resuming_with_another_batch_size_is_refused(tmp_path, data_dir, scheduler):
    options = [f"scheduler={scheduler}", "test=false"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options, "trainer.max_epochs=1"))
    again = tiny_config(tmp_path, data_dir, *options, "data.batch_size=5", "trainer.max_epochs=3", "ckpt_path=last")
    with pytest.raises(ConfigError, match=r"epochs have 4 steps, this run's would have 5; resume with"):
        fit_and_test(again)


NORMS = "callbacks.gradient_norms.every_n_steps=1"


@pytest.mark.slow
def test_averaged_weights_are_validated_and_kept_like_those_of_any_epoch(tmp_path, data_dir):
    """Lightning's StochasticWeightAveraging: the epoch after the last one leaves the average as it is."""
    options = [
        "callbacks=swa",
        "callbacks.swa.swa_epoch_start=1",
        "optimizer.lr=0.01",
        "monitor=val/loss",
        "test=false",
    ]
    cfg = tiny_config(tmp_path, data_dir, *options, "scheduler=one_cycle")
    validate_config(cfg)
    starts = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: starts.append(optimizer.param_groups[0]["params"][0].detach().clone())
    )
    try:
        results = fit_and_test(cfg)
    finally:
        hook.remove()
    last = read_checkpoint(tmp_path)
    assert last["epoch"] == 2
    head = last["state_dict"][next(name for name in last["state_dict"] if name.startswith("head."))]
    # Of the two epochs, of four steps each, the weights with which they start.
    assert torch.allclose(head, (starts[0] + starts[4]) / 2, atol=1e-7)
    assert not torch.allclose(starts[0], starts[4], atol=1e-3)
    assert "val/loss" in results


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("callbacks.swa.swa_lrs=1", "callbacks.swa.swa_lrs=1; expected a number above 0 with a point"),
        ("callbacks.swa.swa_epoch_start=1.5", "callbacks.swa.swa_epoch_start=1.5; expected an epoch from 1"),
        ("callbacks.swa.annealing_epochs=0", "callbacks.swa.annealing_epochs=0; expected a whole number"),
    ],
)
def test_wrong_options_of_averaging_are_named(tmp_path, data_dir, option, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(tiny_config(tmp_path, data_dir, "callbacks=swa", option))
