"""What `input=` means: images, videos, a camera, an address."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from src.data.readers.class_folders import SUFFIXES
from src.data.readers.containers import VIDEO_SUFFIXES
from src.data.readers.file_tree import visible_files
from src.data.readers.images import BROKEN
from src.inference.network import address_suffix, check_address, is_address
from src.utils.errors import ConfigError

Kind = Literal["picture", "video", "camera", "stream"]
IMAGES = {*SUFFIXES, ".jfif"}
EXPECTED = (
    "expected an image, a folder, a glob such as photos/*.jpg, a video, the number of a camera, or a list of these"
)


@dataclass(frozen=True)
class Source:
    """One image, video or camera.

    Attributes:
        kind: Which of them; `stream` for a video at an address.
        name: The file as the user would write it, or `camera 0`, or an address.
        number: Number of the camera; 0 for files.
    """

    kind: Kind
    name: str
    number: int = 0


def find_sources(given: str | int | Sequence[str | int], network: bool = False) -> list[Source]:
    """Return what an input means, folders and globs in the order of their names.

    Args:
        given: An image, a folder (with its subfolders), a glob, a video, the number of a camera, an address, or a list
            of these.
        network: Whether addresses are allowed.

    Raises:
        ConfigError: If there is nothing of the kind.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given:
            raise ConfigError(f"input=[]; {EXPECTED}.")
        return [source for one in given for source in find_sources(one, network)]
    text = str(given)
    if is_address(text) and not Path(text).exists():
        check_address(text, network)
        return [Source("picture" if address_suffix(text) in IMAGES else "stream", text)]
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        found = [str(p) for p in sorted(visible_files(path)) if _is_media(p)]
    elif path.exists():
        found = [str(path)]
    elif text.isdecimal():
        return [Source("camera", f"camera {text}", int(text))]
    elif glob.has_magic(text):
        found = [str(p) for p in sorted(_matching(path)) if _is_media(p)]
    else:
        raise ConfigError(f"input={given} does not exist; {EXPECTED}.")
    if not found:
        raise ConfigError(f"input={given} has no image and no video in it; {EXPECTED}.")
    return [Source(_kind(Path(name)), name) for name in found]


def _matching(pattern: Path) -> Iterator[Path]:
    """Yield the files of a glob; `**` enters no links, unlike that of Python's module glob, which may never end."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]).glob(str(Path(*parts[first:])))


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in IMAGES | VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


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
