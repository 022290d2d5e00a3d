"""Checkpoints that are there as a whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint in one step, so that a kill or a full disk leaves the one before.

    Lightning writes its temporary file into the system's folder for them: moving it to another file system copies it,
    and a kill meanwhile leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], *args: Any, **_: Any) -> None:
        """Write a checkpoint beside `path`, then put it in its place.

        Args:
            checkpoint: Content.
            path: Its file; the folder is made if needed.
            *args: Unused.
            **_: Unused.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # From memory, because torch's own writer of files does not say why it failed.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        # A fixed name: what a killed process left behind is overwritten by the next one.
        scratch = target.with_name(f".{target.name}.tmp")
        try:
            with scratch.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(target)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
