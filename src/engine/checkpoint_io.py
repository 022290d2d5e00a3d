"""Checkpoints that are there as a whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from src.callbacks.checkpoints import keep_own_files
from src.utils.atomic_files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint in one step, so that a kill or a full disk leaves the one before; reads none that lies.

    Lightning writes its temporary file into the system's folder for them: moving it to another file system copies it,
    and a kill meanwhile leaves half a file.
    """

    def __init__(self, folder: Path) -> None:
        """Create the plugin.

        Args:
            folder: Where the run keeps its checkpoints.
        """
        self._folder = folder

    def load_checkpoint(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint to go on from; its callbacks know of no files but those of its run and of this one.

        Args:
            path: Its file.
            *args: What Lightning's own reader takes.
            **kwargs: Likewise.
        """
        checkpoint: dict[str, Any] = super().load_checkpoint(Path(path), *args, **kwargs)
        keep_own_files(checkpoint, Path(path).parent, self._folder)
        return checkpoint

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
        with atomic_write(target, alone=True) as scratch:
            scratch.write_bytes(content.getbuffer())
