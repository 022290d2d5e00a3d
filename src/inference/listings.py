"""Inputs that name or hold many images: archives, and lists of paths. They are read as they come, never whole."""

from __future__ import annotations

import io
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from src.data.readers.archives import DAMAGED, MAX_LINE, Member, is_junk, open_archive, open_table
from src.data.readers.file_tree import TreeFile, printable
from src.inference.network import is_address
from src.utils.errors import ConfigError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
LISTS = (".txt", ".csv")
# Columns of a list that name files: that of `data=csv`, and that of `items.csv`.
COLUMNS = ("path", "source")
LIST = f"a line a file, or a table with a column {' or '.join(COLUMNS)}"


def archived_files(path: Path, suffixes: Container[str]) -> Iterator[TreeFile]:
    """Yield the files in an archive, by name of a .zip and as they come of a .tar; each can be read until the last.

    Args:
        path: The archive.
        suffixes: Endings of the names of those that are wanted, in lower case.

    Raises:
        ConfigError: If it is none, or damaged.
    """
    expected = "a .zip or a .tar of images"
    with open_archive(path, "input", expected) as members:
        if members is None:
            raise ConfigError(f"input={path} is no archive; expected {expected}.")
        for member in members:
            name = PurePosixPath(member.name)
            if member.kind == "file" and name.suffix.lower() in suffixes and not is_junk(name.parts):
                yield _entry(path, member)


def _entry(path: Path, member: Member) -> TreeFile:
    name = f"{path}/{printable(member.name)}"
    return TreeFile(name, name, member.opener)


def listed_names(path: Path) -> Iterator[str]:
    """Yield the paths in a list, relative ones as they are from the list's folder, and addresses.

    Args:
        path: A text file with a path a line, or a CSV file with a column `path` or `source`.

    Raises:
        ConfigError: If it cannot be read, or has no such column.
    """
    names = _column(path) if path.suffix.lower() == ".csv" else _lines(path)
    for name in names:
        yield name if is_address(name) else str(path.parent / name)


def _column(path: Path) -> Iterator[str]:
    with open_table(path, "input", LIST, ()) as rows:
        header = [name.strip() for name in next(rows, [])]
        column = next((name for name in COLUMNS if name in header), None)
        if column is None:
            raise ConfigError(f"input={path} has the columns {', '.join(header) or 'none'}; expected {LIST}.")
        place = header.index(column)
        for row in rows:
            if place < len(row) and row[place].strip():
                yield row[place]


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            yield from filter(None, map(str.strip, _text(file)))
    except DAMAGED as error:
        raise ConfigError(f"input={path} cannot be read ({error}); expected {LIST}.") from error


def _text(file: IO[bytes]) -> Iterator[str]:
    # Names of files may be no text; they are in a list as they are on the disk.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
    yield from iter(partial(text.readline, MAX_LINE), "")
