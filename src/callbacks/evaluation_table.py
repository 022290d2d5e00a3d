"""The table of predictions, on which reports and figures are built."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import PackedStore, Split
from src.models.classifier import ExpressionClassifier
from src.models.prediction import EvaluationOutput

Results = dict[str, float | int | list[float]]


@dataclass(frozen=True)
class EvaluationTable:
    """Predictions of N images of the split that is evaluated, in the store's order.

    Attributes:
        split: That split: `test`, or `val` while the test split is not to be seen.
        class_names: The model's classes.
        ids: Names of the images, (N,).
        labels: Class indices, (N,); -1 where there is none.
        probabilities: (N, n_classes).
        in_dedup: Whether the image has no duplicate elsewhere and is the first of its group, (N,).
        valence: (N,), or None where it is no trained output.
        arousal: (N,), likewise.
        rows: Rows of the store, (N,).
        store: The images.
        shows_people: Whether the images do: then they may leave the machine with the user's consent only.
        n_unmapped: Images left out because the model lacks their class.
        clips: Name of the clip that each image is a frame of, (N,); None if no two images are of one.
    """

    __test__ = False  # not a test class, whatever pytest thinks

    split: Split
    class_names: tuple[str, ...]
    ids: list[str]
    labels: Tensor
    probabilities: Tensor
    in_dedup: Tensor
    valence: Tensor | None
    arousal: Tensor | None
    rows: Tensor
    store: PackedStore
    shows_people: bool
    n_unmapped: int
    clips: list[str] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def predictions(self) -> Tensor:
        """Class indices of the largest probabilities, (N,)."""
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Fraction correct."""
        return float((self.predictions == self.labels).float().mean())

    def labeled(self) -> EvaluationTable:
        """Return the images that have a label."""
        known = self.labels >= 0
        if bool(known.all()):
            return self
        kept = known.nonzero().flatten().tolist()
        return replace(
            self,
            ids=[self.ids[i] for i in kept],
            labels=self.labels[known],
            probabilities=self.probabilities[known],
            in_dedup=self.in_dedup[known],
            valence=None if self.valence is None else self.valence[known],
            arousal=None if self.arousal is None else self.arousal[known],
            rows=self.rows[known],
            clips=None if self.clips is None else [self.clips[i] for i in kept],
        )

    @property
    def images_hash(self) -> str:
        """Hash of the images, whatever their order."""
        digests = sorted(self.store.digests[self.rows.numpy()].tolist())
        return hashlib.blake2b(b"".join(digests), digest_size=8).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """Return the table as `predictions.csv` has it, a row per image."""
        names = self.class_names
        columns: dict[str, Any] = {
            "id": self.ids,
            **({} if self.clips is None else {"clip": self.clips}),
            "split": self.split,
            "label": [names[i] if i >= 0 else "" for i in self.labels],
            "prediction": [names[i] for i in self.predictions],
            "in_dedup": self.in_dedup.numpy(),
            **{name: self.probabilities[:, i].numpy() for i, name in enumerate(names)},
        }
        if self.valence is not None and self.arousal is not None:
            columns |= {"valence": self.valence.numpy(), "arousal": self.arousal.numpy()}
        return pd.DataFrame(columns)


class EvaluationTableWriter(ABC):
    """Something that is made of the table: a file, numbers, what a logger shows.

    One that `wants_labels` gets the images that have one, and is not asked if there are none.
    """

    __test__ = False
    wants_labels: ClassVar[bool] = True

    @abstractmethod
    def write(self, table: EvaluationTable, run_dir: Path, trainer: Trainer) -> Results:
        """Use the complete table; called in the main process.

        Args:
            table: The table.
            run_dir: Run directory to write to.
            trainer: The trainer, for its loggers.

        Returns:
            Numbers for `metrics.json`, {} for none.
        """


class EvaluationTableCollector(Callback):
    """Collects the predictions of all processes, once, and hands them as a table to every writer.

    Validations within a fit do not count, those by themselves do, as tests do.

    Attributes:
        results: What the writers returned, for `metrics.json`; empty before the evaluation.
    """

    __test__ = False

    def __init__(self, run_dir: str, writers: Mapping[str, EvaluationTableWriter | None]) -> None:
        """Create the callback.

        Args:
            run_dir: Run directory to write to.
            writers: Writers by name, in the order in which they write; None for one that is off.
        """
        self.run_dir = Path(run_dir)
        self.writers = [writer for writer in writers.values() if writer is not None]
        self.results: Results = {}
        self._outputs: list[EvaluationOutput] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier evaluation."""
        self._outputs, self.results = [], {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier evaluation."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_test_start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch."""
        kept = {k: v.detach().cpu() if isinstance(v, Tensor) else v for k, v in outputs.items()}
        self._outputs.append(cast(EvaluationOutput, kept))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the batches together, and let the writers write."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_test_end(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the batches together, and let the writers write."""
        outputs = self._outputs
        if trainer.world_size > 1:
            gathered: list[list[EvaluationOutput]] = [[]] * trainer.world_size
            dist.all_gather_object(gathered, outputs)
            outputs = [output for part in gathered for output in part]
        self._outputs = []
        if trainer.is_global_zero and outputs:
            data = cast(StoreDataModule, trainer.datamodule)  # type: ignore[attr-defined]
            split: Split = "val" if trainer.state.fn == TrainerFn.VALIDATING else "test"
            table = _table(outputs, data, cast(ExpressionClassifier, pl_module), split)
            labeled = table.labeled()
            for writer in self.writers:
                shown = labeled if writer.wants_labels else table
                if len(shown):
                    self.results |= writer.write(shown, self.run_dir, trainer)


def _table(
    outputs: list[EvaluationOutput], data: StoreDataModule, model: ExpressionClassifier, split: Split
) -> EvaluationTable:
    store = data.store
    rows = torch.cat([output["row"] for output in outputs])
    order = rows.argsort()
    rows = rows[order]

    def column(name: str) -> Tensor:
        return torch.cat([output[name] for output in outputs])[order]  # type: ignore[literal-required]

    ids = [str(store.ids[row]) for row in rows]
    clips = [data.clip_of(id) for id in ids]
    trained = "valence_arousal" in model.spec.outputs
    return EvaluationTable(
        split=split,
        class_names=model.spec.class_names,
        ids=ids,
        labels=column("label"),
        probabilities=column("probabilities"),
        in_dedup=torch.from_numpy(np.isin(rows.numpy(), data.clean_rows(split))),
        valence=column("valence").float() if trained else None,
        arousal=column("arousal").float() if trained else None,
        rows=rows,
        store=store,
        shows_people=data.shows_people,
        n_unmapped=data.served_rows(split)[2],
        clips=clips if len(set(clips)) < len(clips) else None,
    )
