"""The memory through which loader processes hand batches over."""

from __future__ import annotations

import shutil
from pathlib import Path

from src.utils.errors import ConfigError

# Where Linux keeps it; containers often have 64 MB of it.
PLACE = Path("/dev/shm")
# Batches that a process has ready, torch's default, and the one that is looked at.
BATCHES = 3


def check_shared_memory(n_workers: int, batch_bytes: int) -> None:
    """Refuse loader processes that would wait for ever, or die, for want of shared memory.

    Args:
        n_workers: Loader processes; those of training and validation live side by side.
        batch_bytes: Bytes of a batch.

    Raises:
        ConfigError: If there is not enough.
    """
    if not n_workers or not PLACE.is_dir():
        return
    wanted, free = 2 * n_workers * BATCHES * batch_bytes, shutil.disk_usage(PLACE).free
    if wanted > free:
        raise ConfigError(
            f"data.num_workers={n_workers} needs {wanted / 2**20:,.0f} MB of shared memory, {PLACE} has "
            f"{free / 2**20:,.0f} MB free. Start the container with more, such as docker run --shm-size=2g, or set "
            "data.num_workers=0 or a smaller data.batch_size."
        )
