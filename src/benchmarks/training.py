"""Trainings of a few batches, for the suites that measure them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from hydra.utils import get_class
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import Split
from src.engine.build import build_callbacks, build_loggers, build_trainer, plain
from src.engine.fit import new_model
from src.engine.load import starting_weights
from src.models.classifier import ExpressionClassifier
from src.utils.groups import load_group
from src.utils.precision import resolve_precision


class PassTime(Callback):
    """Measures the training batches of one epoch, loading included.

    Attributes:
        seconds: Their wall time.
    """

    def __init__(self) -> None:
        """Create the callback."""
        self.seconds = self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock after the last batch."""
        if trainer.is_last_batch:
            self.seconds = time.perf_counter() - self._start


@dataclass(frozen=True)
class Training:
    """What a training of the configuration is made of.

    Attributes:
        cfg: Configuration of `conf/benchmark.yaml`, with what was chosen.
        model: The model.
        data: Its data.
        precision: Lightning's name of the precision.
    """

    cfg: DictConfig
    model: ExpressionClassifier
    data: StoreDataModule
    precision: str

    @property
    def bf16(self) -> bool:
        """Whether the precision is bf16."""
        return self.precision == "bf16-mixed"

    def epoch(self, with_callbacks: bool) -> float:
        """Train for an epoch with Lightning, without validation and checkpoints; return the seconds of its batches."""
        clock = PassTime()
        chosen = build_callbacks(self.cfg) if with_callbacks else []
        others = [c for c in chosen if not isinstance(c, ModelCheckpoint | EarlyStopping)]
        loggers = build_loggers(self.cfg) if with_callbacks else []
        trainer = build_trainer(self.cfg, [*others, clock], loggers, self.precision)
        with torch.random.fork_rng(devices=[]):
            trainer.fit(self.model, datamodule=self.data)
        return clock.seconds


def prepare(cfg: DictConfig, data_dir: Path | str, n: int, *changes: str, **groups: str) -> Training:
    """Build model and data of a training on n images.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
        data_dir: Folder of the stores.
        n: Number of training images.
        *changes: Further options, such as `data.batch_size=512`.
        **groups: Groups to take another option of, such as `head="linear"`.
    """
    replaced = {name: load_group(name, option) for name, option in groups.items()}
    fixed = ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "trainer.enable_checkpointing=false", *changes]
    # Replaced, not merged: options of one head are none of another.
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in replaced])
    OmegaConf.set_struct(kept, False)  # the trainer knows more keys than its group
    chosen = cast(DictConfig, OmegaConf.merge(kept, replaced))
    chosen.merge_with(OmegaConf.from_dotlist(fixed), {"data_dir": str(data_dir)})
    precision = resolve_precision(chosen.trainer.precision, chosen.trainer.accelerator)
    start = starting_weights(chosen.backbone.weights)
    options = {key: value for key, value in plain(chosen.data).items() if not key.startswith("_")}
    options["image_size"] = chosen.backbone.image_size
    data = _first(n, get_class(chosen.data._target_))(**options)
    data.prepare_data()
    model = new_model(chosen, data, start, precision)
    return Training(chosen, model, data.with_grayscale(model.spec.grayscale), precision)


def _first(n: int, data_set: Any) -> type[StoreDataModule]:
    """Return a data set of which every split serves its first n images only."""

    class First(data_set):  # type: ignore[misc]  # a class that the configuration names
        def served_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
            rows, labels, left_out = super().served_rows(split)
            return rows[:n], labels[:n], left_out

    return First
