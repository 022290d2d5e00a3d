"""Checkpoints of finished epochs: the best one and the last one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from src.runs import layout


class BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation score as `best.ckpt`.

    A run that continues elsewhere takes the best checkpoint so far along, so that its score still counts.
    """

    def __init__(self, dirpath: str, monitor: str, mode: str) -> None:
        """Create the callback.

        Args:
            dirpath: Folder of the checkpoints.
            monitor: Validation metric to watch.
            mode: `max` or `min`: which value is best.
        """
        super().__init__(
            dirpath,
            filename=Path(layout.BEST_CHECKPOINT).stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and its checkpoint.

        The checkpoint of another run directory is copied; the one of a directory that was moved came along with it.
        """
        here, best = Path(str(self.dirpath)), Path(state_dict["best_model_path"])
        kept = here / best.name
        if Path(state_dict["dirpath"]) != here and (best.is_file() or kept.is_file()):
            if best.is_file():
                here.mkdir(parents=True, exist_ok=True)
                shutil.copy2(best, kept)
            score = state_dict["best_model_score"]
            state_dict = {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": str(kept),
                "kth_best_model_path": str(kept),
                "best_k_models": {str(kept): score},
            }
        super().load_state_dict(state_dict)


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` after every epoch, the point from which a run resumes.

    `save_last` would not do: it writes only when the monitored metric improves.
    """

    def __init__(self, dirpath: str) -> None:
        """Create the callback.

        Args:
            dirpath: Folder of the checkpoints.
        """
        super().__init__(
            dirpath,
            filename=Path(layout.LAST_CHECKPOINT).stem,
            monitor=None,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
