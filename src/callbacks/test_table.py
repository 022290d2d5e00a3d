"""The table of test predictions, on which reports and figures are built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.models.classifier import EvaluationOutput, ExpressionClassifier


@dataclass(frozen=True)
class TestTable:
    """Predictions of N test pictures, in the store's order.

    Attributes:
        class_names: The model's classes.
        ids: Names of the pictures, (N,).
        labels: Class indices, (N,).
        probabilities: (N, n_classes).
        in_dedup: Whether the picture has no copy elsewhere and is the first of its group, (N,).
        valence: (N,), or None where it is no trained output.
        arousal: (N,), likewise.
        n_unmapped: Test pictures left out because the model lacks their class.
    """

    __test__ = False  # not a test class, whatever pytest thinks

    class_names: tuple[str, ...]
    ids: list[str]
    labels: Tensor
    probabilities: Tensor
    in_dedup: Tensor
    valence: Tensor | None
    arousal: Tensor | None
    n_unmapped: int

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.ids)

    @property
    def predictions(self) -> Tensor:
        """Class indices of the largest probabilities, (N,)."""
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Share of hits."""
        return float((self.predictions == self.labels).float().mean())


class TestSetCallback(Callback, ABC):
    """Collects the test predictions of all processes; the main one gets them as a table."""

    __test__ = False

    def __init__(self, run_dir: str) -> None:
        """Create the callback.

        Args:
            run_dir: Run directory to write to.
        """
        self.run_dir = Path(run_dir)
        self._outputs: list[EvaluationOutput] = []

    @abstractmethod
    def on_table(self, trainer: Trainer, table: TestTable) -> None:
        """Use the complete table; called in the main process."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._outputs = []

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

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the batches together."""
        outputs = self._outputs
        if trainer.world_size > 1:
            gathered: list[list[EvaluationOutput]] = [[]] * trainer.world_size
            dist.all_gather_object(gathered, outputs)
            outputs = [output for part in gathered for output in part]
        self._outputs = []
        if trainer.is_global_zero and outputs:
            data = cast(StoreDataModule, trainer.datamodule)  # type: ignore[attr-defined]
            self.on_table(trainer, _table(outputs, data, cast(ExpressionClassifier, pl_module)))


def _table(outputs: list[EvaluationOutput], data: StoreDataModule, model: ExpressionClassifier) -> TestTable:
    store = data.store
    rows = torch.cat([output["row"] for output in outputs])
    order = rows.argsort()
    rows = rows[order]

    def column(name: str) -> Tensor:
        return torch.cat([output[name] for output in outputs])[order]  # type: ignore[literal-required]

    trained = "valence_arousal" in model.spec.outputs
    return TestTable(
        class_names=model.spec.class_names,
        ids=[str(store.ids[row]) for row in rows],
        labels=column("label"),
        probabilities=column("probabilities"),
        in_dedup=torch.from_numpy(np.isin(rows.numpy(), data.clean_test_rows())),
        valence=column("valence").float() if trained else None,
        arousal=column("arousal").float() if trained else None,
        n_unmapped=data.split_rows("test")[2],
    )
