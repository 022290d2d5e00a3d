"""Locks between processes, which the system frees when their process ends, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


def new_lock(path: Path) -> FileLock:
    """Return a lock that nobody holds yet.

    On Linux and macOS it is flock's, which would pass to loader processes that are forked and outlive a killed run by
    seconds; filelock closes their copies.

    Args:
        path: Its file, in a folder that exists; Windows removes it with the lock, others leave it.
    """
    # What filelock would make where the file system knows no locks is a marker, which outlives a killed process.
    return FileLock(path, fallback_to_soft=False)


@contextmanager
def alone(path: Path, waiting: str | None = None) -> Iterator[bool]:
    """Wait until no other process is within a block of the same lock, and keep others out of this one.

    Args:
        path: File of the lock.
        waiting: What to say if one is.

    Yields:
        Whether others are kept out; not where the file system knows no locks.
    """
    lock = new_lock(path)
    with ExitStack() as held:
        with suppress(OSError):
            try:
                held.enter_context(lock.acquire(blocking=waiting is None))
            except Timeout:
                log.info("%s", waiting)
                held.enter_context(lock)
        yield lock.is_locked
