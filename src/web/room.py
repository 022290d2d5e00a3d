"""The folder of what is uploaded to the demo and shown on it: bounded in size and age, and gone when the demo ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from src.utils.locks import new_lock

PREFIX = "emonet-fer-"
# Held while the demo of a folder runs; the system frees it, however that ends.
LOCK = "demo.lock"
# Seconds after which a file goes, and before which none goes for the sake of others: it is being looked at.
MAX_AGE, MIN_AGE = 3600.0, 60.0


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end, after those of demos that were killed."""
    remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name, new_lock(Path(name) / LOCK):
        yield Path(name)


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of demos that run no more.

    Args:
        parent: Where they lie, and maybe the folders of others, who may want the lock to be another file.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        if not _is_own(folder) or not (folder / LOCK).is_file():
            continue
        with suppress(OSError), new_lock(folder / LOCK).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's; on Windows, those of others cannot be opened."""
    return folder.is_dir() and not folder.is_symlink() and (os.name == "nt" or folder.stat().st_uid == os.getuid())


class Room:
    """Room for files in a folder.

    Attributes:
        folder: The folder.
        max_bytes: Bytes that fit.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Start; the files that are there now stay, and do not count.

        Args:
            folder: The folder.
            max_bytes: Bytes that fit, of requests that are under way, too.
        """
        self.folder, self.max_bytes = folder, max_bytes
        self._kept = frozenset(_files(folder))
        self._used = self._reserved = 0

    @contextmanager
    def reserved(self, size: int) -> Iterator[bool]:
        """Yield whether there is room for so many bytes; if so, keep it within the block."""
        there_is = self._fits(size)
        if not there_is:
            self.tidy(size)
            there_is = self._fits(size)
        if not there_is:
            yield False
            return
        self._reserved += size
        try:
            yield True
        finally:
            self._reserved -= size
            self._used += size  # or less, as the next `tidy` finds out

    def _fits(self, size: int) -> bool:
        return self._used + self._reserved + size <= self.max_bytes

    def tidy(self, wanted: int = 0) -> None:
        """Remove what is old and, the oldest first, what leaves no room.

        Args:
            wanted: Bytes to make room for.
        """
        now, found = time.time(), []
        for path in _files(self.folder):
            with suppress(OSError):  # gone by now
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        found = sorted(entry for entry in found if entry[2] not in self._kept)
        self._used = sum(size for _, size, _ in found)
        for changed, size, path in found:
            age = now - changed
            if age <= MIN_AGE or (age <= MAX_AGE and self._fits(wanted)):
                break
            with suppress(OSError):  # Windows keeps what is open
                path.unlink()
                self._used -= size
                path.parent.rmdir()  # Gradio has a folder a file


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)
