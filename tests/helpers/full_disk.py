"""A stand-in for a full disk: no file may grow beyond some bytes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


def fill_disk(limit: int) -> None:
    """Let no file of this process, and of those that it starts, grow beyond some bytes; -1 for any number."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Fill the disk within the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    fill_disk(limit)
    try:
        yield
    finally:
        fill_disk(before)
