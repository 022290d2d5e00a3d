"""Folders and archives as one kind of thing: a list of files, read one by one, never unpacked."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from src.data.readers.archives import DAMAGED, Member, is_junk, open_archive
from src.data.readers.images import UnreadableImage, read_limited
from src.data.store.packed_store import Skipped
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# Folders within folders; and paths by which links may lead to one folder: with two links to the next in each of a
# few dozen folders, there would be billions.
MAX_DEPTH, MAX_PATHS = 64, 16


@dataclass(frozen=True)
class TreeFile:
    """A file of a tree.

    Attributes:
        path: Its path in the tree, with forward slashes.
        identity: Equal for two paths that lead to one file, by a link.
        opener: Opens it for reading.
        location: Where it lies; None within an archive.
    """

    path: str
    identity: Hashable
    opener: Callable[[], IO[bytes]] = field(repr=False, compare=False)
    location: Path | None = field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Components of the path."""
        return tuple(self.path.split("/"))

    def read(self) -> bytes:
        """Return the content.

        Raises:
            UnreadableImage: If it is damaged, encrypted or too large.
        """
        try:
            with self.opener() as file:
                return read_limited(file)
        except FileNotFoundError:
            raise UnreadableImage("missing") from None
        except DAMAGED as error:  # or encrypted
            raise UnreadableImage(f"cannot be read ({error})") from None


@dataclass(frozen=True)
class Tree:
    """What a folder or an archive holds, without hidden files and those that operating systems scatter.

    Attributes:
        files: Every file: by path; those of a tar archive as they come, since going back means unpacking it anew.
        folders: Path of every folder, also of empty ones; the top is not among them.
        skipped: What is there and is not read, with the reason.
    """

    files: list[TreeFile]
    folders: set[str]
    skipped: list[Skipped]

    def subfolders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder ("" for the top), sorted."""
        return sorted(PurePosixPath(path).name for path in self.folders if _parent(path) == folder)

    def below(self, folder: str) -> Tree:
        """Return the part of the tree below a folder ("" for all), paths relative to it."""
        if not folder:
            return self
        start = f"{folder}/"
        files = [replace(file, path=file.path[len(start) :]) for file in self.files if file.path.startswith(start)]
        return Tree(files, {path[len(start) :] for path in self.folders if path.startswith(start)}, self.skipped)

    def topmost(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        """Return the folders nearest to the top whose subfolders' names are `wanted`; "" is the top itself."""
        children: dict[str, list[str]] = {}
        for path in sorted(self.folders):
            children.setdefault(_parent(path), []).append(PurePosixPath(path).name)
        found = {folder: len(PurePosixPath(folder).parts) for folder, names in children.items() if wanted(names)}
        return sorted(folder for folder, depth in found.items() if depth == min(found.values()))


@contextmanager
def open_tree(path: Path, expected: str) -> Iterator[Tree]:
    """List a folder, a .zip or a .tar (also compressed); its files can be read while the context lasts.

    Args:
        path: `data.path`, which exists.
        expected: What the data set expects there, for the message.

    Raises:
        ConfigError: If it is neither, or a damaged archive.
    """
    if path.is_dir():
        yield _folder_tree(path)
        return
    with open_archive(path, "data.path", expected) as members:
        if members is None:
            raise ConfigError(f"data.path={path} is neither a folder nor a .zip or .tar archive; expected {expected}.")
        yield _archive_tree(members)


def single_file(path: Path, id: str) -> TreeFile:
    """Return one file by itself, which need not exist.

    Args:
        path: Where it lies.
        id: What it is called in messages and in the store.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return TreeFile(id, str(path), partial(_file, path), path)
    return TreeFile(id, (status.st_dev, status.st_ino), partial(_file, path), path)


def outside(path: str) -> str | None:
    """Return why a path would lead out of its tree, or None if it does not."""
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        return "an absolute path"
    return "a path with '..'" if ".." in path.split("/") else None


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _folder_tree(root: Path) -> Tree:
    tree, paths = Tree([], set(), []), Counter[Path]()
    # Folders to look into: where each lies, its path in the tree, and the real folders it is in.
    pending: list[tuple[Path, str, tuple[Path, ...]]] = [(root, "", (root.resolve(),))]
    while pending:
        folder, prefix, above = pending.pop()
        for name in _names(folder, prefix, tree.skipped):
            path = folder / name
            shown = prefix + printable(name)
            try:
                status = path.stat()
            except OSError as error:
                tree.skipped.append(Skipped(shown, f"a link that leads nowhere ({error.strerror})"))
                continue
            if stat.S_ISREG(status.st_mode):
                # The inode sees through symbolic and hard links.
                tree.files.append(TreeFile(shown, (status.st_dev, status.st_ino), partial(_file, path), path))
            elif not stat.S_ISDIR(status.st_mode):
                tree.skipped.append(Skipped(shown, "not a file"))
            elif any(inner.is_relative_to(real := path.resolve()) for inner in above):
                log.warning("%s leads back to a folder that holds it; not followed", path)
            elif len(above) >= MAX_DEPTH:
                tree.skipped.append(Skipped(shown, f"more than {MAX_DEPTH} folders deep"))
            elif paths[real] >= MAX_PATHS:
                tree.skipped.append(Skipped(shown, f"a link to a folder to which {MAX_PATHS} others lead"))
            else:
                paths[real] += 1
                tree.folders.add(shown)
                pending.append((path, f"{shown}/", (*above, real)))
    tree.files.sort(key=lambda file: file.path)
    return tree


def _file(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():  # a pipe would wait for its other end
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path.open("rb")


def _names(folder: Path, prefix: str, skipped: list[Skipped]) -> list[str]:
    try:
        return [name for name in sorted(os.listdir(folder)) if not is_junk([name])]
    except OSError as error:
        if not prefix:
            raise
        skipped.append(Skipped(prefix, f"a folder that cannot be opened ({error.strerror})"))
        return []


def printable(name: str) -> str:
    """Write bytes of a file name that are no UTF-8 as escapes, since such a name cannot be printed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _archive_tree(members: Iterable[Member]) -> Tree:
    listing = _Listing()
    for member in members:
        listing.add(member)
    return listing.tree


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without those that systems leave behind; linked folders are entered once."""
    seen, pending = {folder.resolve()}, [(folder, 0)]
    while pending:
        above, depth = pending.pop()
        for name in _names(above, "any", []):
            path = above / name
            if path.is_file():
                yield path
            elif path.is_dir() and depth < MAX_DEPTH and path.resolve() not in seen:
                seen.add(path.resolve())
                pending.append((path, depth + 1))


class _Listing:
    """Collects the members of an archive, which anyone may have made, into a tree."""

    def __init__(self) -> None:
        self.tree = Tree([], set(), [])
        self._names: set[str] = set()

    def add(self, member: Member) -> None:
        """Add a member, or note why it is left alone."""
        parts = [printable(part) for part in member.name.split("/") if part not in ("", ".")]
        path = "/".join(parts)
        if reason := outside(member.name):
            self.tree.skipped.append(Skipped(printable(member.name), f"{reason} in the archive"))
        elif not parts or is_junk(parts):
            return
        elif len(parts) > MAX_DEPTH:
            self.tree.skipped.append(Skipped(path, f"more than {MAX_DEPTH} folders deep in the archive"))
        elif member.kind == "link":
            self.tree.skipped.append(Skipped(path, "a link or a device in the archive"))
        elif member.kind == "folder":
            self._add_folder(path)
        elif path in self._names:
            self.tree.skipped.append(Skipped(path, "a second member of that name in the archive"))
        else:
            self._names.add(path)
            self._add_folder(_parent(path))
            self.tree.files.append(TreeFile(path, path, member.opener))

    def _add_folder(self, path: str) -> None:
        """Add a folder and those above it, which archives need not list."""
        while path and path not in self.tree.folders:
            self.tree.folders.add(path)
            path = _parent(path)
