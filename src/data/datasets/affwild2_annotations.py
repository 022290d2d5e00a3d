"""Annotations of Aff-Wild2 as its challenges give them: a file a video, a line a frame."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from src.data.readers.archives import open_table
from src.data.store.packed_store import Split
from src.data.vocabulary import canonical_name
from src.utils.errors import ConfigError

Kind = Literal["expression", "valence_arousal"]
# Folders of annotation files; there are no public annotations of the challenges' own test set.
SETS: dict[str, Split | None] = {"train_set": None, "validation_set": "test"}
# Folders of faces; later batches are in others of this beginning.
FACES = "cropped_aligned"
NOT_ANNOTATED, NO_AFFECT = -1, -5.0
# A class of the challenges that is none of ours.
OTHER = "other"
HINT = (
    "Aff-Wild2's folder with cropped_aligned/<video>/00001.jpg and with Train_Set/ and Validation_Set/ of annotation "
    "files, such as VA_Estimation_Challenge/Train_Set/<video>.txt"
)


@dataclass
class Video:
    """What is known of a video.

    Attributes:
        split: `test`, or None for training; that of the kind of annotations that is asked for.
        labels: Number of a frame, from 1 up -> its class, or `OTHER`.
        affect: Number of a frame -> valence and arousal in [-1, 1], NaN where missing.
    """

    split: Split | None = None
    labels: dict[int, str] = field(default_factory=dict)
    affect: dict[int, tuple[float, float]] = field(default_factory=dict)


def read_annotations(root: Path, kind: Kind) -> dict[str, Video]:
    """Read all annotations below a folder; those of action units are left alone.

    Args:
        root: The folder.
        kind: Which annotations a video must have; by them, it belongs to training or to the test.

    Returns:
        Name -> video, in the order of the names.

    Raises:
        ConfigError: If there are none of the kind, a file is damaged, or a video is in both sets.
    """
    videos: dict[str, Video] = {}
    asked: dict[str, Path] = {}
    for folder, split in _sets(root):
        for path in sorted([*folder.glob("*.txt"), *folder.glob("*.csv")]):
            if not path.is_file():  # a pipe would wait for its other end
                raise ConfigError(f"data.path={root}: {path} is not a file; expected annotations. Remove it.")
            video = videos.setdefault(path.stem, Video())
            if _read(path, video) != kind:
                continue
            if path.stem in asked:
                raise ConfigError(
                    f"data.path={root} has two annotations of the video {path.stem}, {asked[path.stem]} and {path}; "
                    "expected one. Move one of them out."
                )
            asked[path.stem], video.split = path, split
    if not asked:
        raise ConfigError(f"data.path={root} has no annotations of {kind.replace('_', ' and ')}; expected {HINT}.")
    return {name: videos[name] for name in sorted(asked)}


def _sets(root: Path) -> Iterator[tuple[Path, Split | None]]:
    for path in _folders(root, tuple(SETS)):
        yield path, SETS[path.name.lower()]


def face_folders(root: Path) -> list[Path]:
    """Return the folders that hold a folder of faces for each video.

    Raises:
        ConfigError: If there are none.
    """
    found = list(_folders(root, (FACES,)))
    if not found:
        raise ConfigError(f"data.path={root} has no folder {FACES}; expected {HINT}.")
    return found


def _folders(root: Path, starts: tuple[str, ...]) -> Iterator[Path]:
    """Yield the folders whose names start with one of these, without looking into them or into those of faces."""
    for above, names, _ in os.walk(root):
        names.sort()
        for name in list(names):
            if name.lower().startswith((*starts, FACES)):
                names.remove(name)
                if name.lower().startswith(starts):
                    yield Path(above, name)


def _read(path: Path, video: Video) -> Kind | None:
    """Add a file to what is known of its video; return what it annotates, None for something else."""
    with open_table(path, "data.path", HINT) as lines:
        names = [name.strip().lower() for name in next(lines, []) if name.strip()]
        if names == ["valence", "arousal"]:
            for values in lines:
                # By the line, not by counting: empty lines are not among these.
                valence, arousal = (_affect(path, lines.line_num, text) for text in _cells(path, lines, values, 2))
                if not (math.isnan(valence) and math.isnan(arousal)):
                    video.affect[lines.line_num - 1] = valence, arousal
            return "valence_arousal"
        if "neutral" not in names:
            return None
        classes = [name if name == OTHER else canonical_name(name) for name in names]
        for values in lines:
            number = _cells(path, lines, values, 1)[0].strip()
            if not number.lstrip("-").isdecimal() or not NOT_ANNOTATED <= int(number) < len(classes):
                expected = f"{NOT_ANNOTATED} or a class from 0 to {len(classes) - 1}"
                raise _broken(path, lines.line_num, repr(number), expected)
            if int(number) != NOT_ANNOTATED:
                video.labels[lines.line_num - 1] = classes[int(number)]
        return "expression"


def _cells(path: Path, lines: object, values: list[str], n: int) -> list[str]:
    if len(values) != n:
        raise _broken(path, getattr(lines, "line_num", 0), f"{len(values)} values", str(n))
    return values


def _affect(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if value == NO_AFFECT:
        return math.nan
    if not -1 <= value <= 1:
        raise _broken(path, line, repr(text), f"a number in [-1, 1], or {NO_AFFECT:g} where there is none")
    return value


def _broken(path: Path, line: int, found: str, expected: str) -> ConfigError:
    return ConfigError(f"data.path: line {line} of {path} has {found}; expected {expected}. Repair or remove the file.")
