"""What `input=` means: images, videos, archives, lists, a camera, an address."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from src.data.readers.class_folders import SUFFIXES
from src.data.readers.containers import VIDEO_SUFFIXES
from src.data.readers.file_tree import TreeFile, visible_files
from src.data.readers.images import BROKEN
from src.inference.listings import ARCHIVES, LISTS, archived_files, listed_names
from src.inference.network import address_suffix, check_address, is_address
from src.utils.errors import ConfigError

Kind = Literal["picture", "video", "camera", "stream"]
# What `input=` takes, see `find_sources`.
Given = str | int | Sequence[str | int]
IMAGES = {*SUFFIXES, ".jfif"}
EXPECTED = (
    "expected an image, a folder, a glob such as photos/*.jpg, an archive (.zip, .tar), a list of paths (.txt, .csv), "
    "a video, the number of a camera, or a list of these"
)


@dataclass(frozen=True)
class Source:
    """One image, video or camera.

    Attributes:
        kind: Which of them; `stream` for a video at an address.
        name: The file as the user would write it, or `camera 0`, or an address.
        number: Number of the camera; 0 for files.
        member: What is read where it lies in an archive, which the next source may close; None elsewhere.
    """

    kind: Kind
    name: str
    number: int = 0
    member: TreeFile | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Shard:
    """One of several shards of an input: a file's name in it says which one has it, so that files may come and go.

    Attributes:
        index: Which shard, from 0 up.
        count: How many there are.
    """

    index: int
    count: int

    def has(self, name: str) -> bool:
        """Return whether a source of this name belongs to it."""
        digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


def find_sources(given: Given, network: bool = False, shard: Shard | None = None) -> Iterator[Source]:
    """Yield what an input means, folders and globs in the order of their names.

    Args:
        given: An image, a folder (with its subfolders), a glob, an archive, a list of paths, a video, the number of a
            camera, an address, or a list of these.
        network: Whether addresses are allowed.
        shard: Which shard of the files; then those of a folder come folder by folder, since a million would have to be
            kept in memory to be sorted. None for all.

    Raises:
        ConfigError: If there is nothing of the kind.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given:
            raise ConfigError(f"input=[]; {EXPECTED}.")
        for one in given:
            yield from find_sources(one, network, shard)
        return
    text = str(given)
    path = Path(os.path.expanduser(text))
    if text.isdecimal() and not path.exists():
        if shard is not None:
            raise ConfigError(_endless(f"camera {text}"))
        yield Source("camera", f"camera {text}", int(text))
        return
    found = False
    for name, member in _names(text, path, shard is None):
        found = True
        if shard is not None and not shard.has(name.removeprefix(str(path))):
            continue
        source = _source(name, member, network)
        if shard is not None and source.kind == "stream":
            raise ConfigError(_endless(name))
        yield source
    if not found:
        raise ConfigError(f"input={given} has no image and no video in it; {EXPECTED}.")


def _endless(name: str) -> str:
    return f"input={name} need not end, and has no shards; give images and videos, or leave shard= out."


def _names(text: str, path: Path, in_order: bool) -> Iterable[tuple[str, TreeFile | None]]:
    """Return the names of all files that one input means, with what is read where they lie in an archive."""
    if is_address(text) and not Path(text).exists():
        return [(text, None)]
    if path.is_dir():
        files = visible_files(path)
        return ((str(file), None) for file in (sorted(files) if in_order else files) if _is_media(file))
    if path.is_file() and path.suffix.lower() in LISTS:
        return ((name, None) for name in listed_names(path))
    if path.exists():
        return _file_or_members(path)
    if glob.has_magic(text):
        matches = sorted(file for file in _matching(path) if _is_media(file) or _is_archive(file))
        return (entry for file in matches for entry in _file_or_members(file))
    raise ConfigError(f"input={text} does not exist; {EXPECTED}.")


def _file_or_members(path: Path) -> Iterable[tuple[str, TreeFile | None]]:
    if not _is_archive(path):
        return [(str(path), None)]
    return ((file.path, file) for file in archived_files(path, IMAGES | VIDEO_SUFFIXES))


def _source(name: str, member: TreeFile | None, network: bool) -> Source:
    if member is not None:
        return Source("picture", name, member=member)
    if is_address(name) and not Path(name).exists():
        check_address(name, network)
        return Source("picture" if address_suffix(name) in IMAGES else "stream", name)
    return Source(_kind(Path(name)), name)


def _matching(pattern: Path) -> Iterator[Path]:
    """Yield the files of a glob; `**` enters no links, unlike that of Python's module glob, which may never end."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]).glob(str(Path(*parts[first:])))


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in IMAGES | VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES) and not path.name.startswith(".") and path.is_file()


def _kind(path: Path) -> Kind:
    suffix = path.suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES or (suffix == ".gif" and _moves(path)) else "picture"


def _moves(path: Path) -> bool:
    if not path.is_file():  # a pipe waits for its other end
        return False
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, *BROKEN):
        return False
