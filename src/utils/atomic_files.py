"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield the scratch file to write, beside `path`; it replaces `path` if nothing is raised, else it is removed.

    Its content is on the disk before that: after a power cut, too, `path` is the old file or the new one.

    Args:
        path: The file.
        alone: Whether no other process can be writing it. The scratch file then has a fixed name, so that what a killed
            process left behind is overwritten by the next one.
    """
    scratch = path.with_name(f".{path.name}.tmp" if alone else f".{path.name}.tmp-{os.getpid()}")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def sync_files(folder: Path) -> None:
    """Bring the files of a folder, which is to be renamed into its place, to the disk."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader never sees half of it."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file so that a reader never sees half of it."""
    with atomic_write(path) as scratch:
        scratch.write_text(content, encoding="utf-8")
