"""The two forms in which AffectNet's annotations come, as one list."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.readers.archives import is_junk, open_table
from src.data.readers.file_tree import outside
from src.data.store.packed_store import Skipped, Split
from src.utils.arrays import read_array
from src.utils.errors import ConfigError

N_LANDMARKS = 68
# Images looked for to find out where they lie.
N_TRIED = 20
PARTS = ("exp", "val", "aro")
CSV_FOLDER = "Manually_Annotated_file_lists"
# The first release's columns; in some copies validation.csv lacks this line.
COLUMNS = (
    *("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks"),
    *("expression", "valence", "arousal"),
)
# AffectNet has no public test set: its validation set is our test split.
CSV_SPLITS: dict[str, Split] = {"training.csv": "train", "validation.csv": "test"}
SET_SPLITS: dict[str, Split] = {"train_set": "train", "val_set": "test"}
# Where the images of the CSV form lie, below data.path.
IMAGE_FOLDERS = (
    *("Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated_Images", "Manually_Annotated"),
    *("Manually_Annotated_compressed", "images", "."),
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """What AffectNet says of an image.

    Attributes:
        id: Path of the image in the release.
        image: The file.
        split: `test` for AffectNet's validation set.
        expression: AffectNet's number, 0 to 10.
        valence: In [-1, 1], NaN if missing.
        arousal: In [-1, 1], NaN if missing.
        box: Left, top, width and height of the face in pixels, or None if the image is the face.
        landmarks: x and y of the 68 iBUG points in pixels of the whole image, (68, 2), or None.
    """

    id: str
    image: Path
    split: Split
    expression: int
    valence: float
    arousal: float
    box: Box | None = None
    landmarks: NDArray[np.float32] | None = None


def read_csv_release(root: Path) -> Iterator[Annotation | Skipped]:
    """Yield the lines of the first release's tables; faces are to be cut out of the images."""
    for name, split in CSV_SPLITS.items():
        table = root / CSV_FOLDER / name
        if not table.is_file():
            continue
        images = _image_folder(root, (cells[COLUMNS[0]] for _, cells in islice(_lines(table), N_TRIED)))
        for number, cells in _lines(table):
            id = cells["subDirectory_filePath"]
            if reason := outside(id):
                yield Skipped(id, reason)
                continue
            try:
                x, y, width, height = (float(cells[name]) for name in COLUMNS[1:5])
                points = cells["facial_landmarks"].strip(";").split(";")
                yield Annotation(
                    id=id,
                    image=images / id,
                    split=split,
                    expression=int(cells["expression"]),
                    valence=_affect(cells["valence"]),
                    arousal=_affect(cells["arousal"]),
                    box=(x, y, width, height),
                    landmarks=_points(points) if points != [""] else None,
                )
            except (ValueError, OverflowError) as error:
                yield Skipped(id, f"line {number} of {name} is broken ({error})")


def read_annotation_release(root: Path) -> Iterator[Annotation | Skipped]:
    """Yield the images of `{train_set,val_set}/images` with their `annotations/ID_{exp,val,aro,lnd}.npy`."""
    for name, split in SET_SPLITS.items():
        if not (root / name).is_dir():
            continue
        annotations, folder = root / name / "annotations", root / name / "images"
        images = {path.stem: path for path in _visible(folder)}
        annotated = (path.name for path in _visible(annotations))
        ids = {file.removesuffix("_exp.npy") for file in annotated if file.endswith("_exp.npy")}
        for stem in sorted(ids | images.keys()):
            image = images.get(stem, folder / f"{stem}.jpg")
            id = image.relative_to(root).as_posix()
            landmarks = annotations / f"{stem}_lnd.npy"
            try:
                expression, valence, arousal = (read_array(annotations / f"{stem}_{part}.npy").item() for part in PARTS)
                yield Annotation(
                    id=id,
                    image=image,
                    split=split,
                    expression=int(expression),
                    valence=_affect(valence),
                    arousal=_affect(arousal),
                    landmarks=_points(read_array(landmarks)) if landmarks.exists() else None,
                )
            except FileNotFoundError as error:
                yield Skipped(id, f"no annotation {Path(error.filename).name}")
            except (OSError, ValueError, OverflowError) as error:
                yield Skipped(id, f"its annotation is broken ({error})")


# Marks by which the forms are told apart, and their readers.
RELEASES: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Iterator[Annotation | Skipped]]]] = {
    "csv": (lambda root: any((root / CSV_FOLDER / name).is_file() for name in CSV_SPLITS), read_csv_release),
    "annotations": (lambda root: any((root / name).is_dir() for name in SET_SPLITS), read_annotation_release),
}


def _lines(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table with their numbers, with or without a line of column names."""
    with open_table(table, "data.path", f"AffectNet's file of {','.join(COLUMNS)}") as lines:
        for values in lines:
            if values[0] == COLUMNS[0]:
                continue
            if len(values) != len(COLUMNS):
                raise ConfigError(
                    f"{table}: line {lines.line_num} has {len(values)} fields; expected {','.join(COLUMNS)}. "
                    "Get AffectNet's file again."
                )
            yield lines.line_num, dict(zip(COLUMNS, values, strict=True))


def _image_folder(root: Path, names: Iterable[str]) -> Path:
    """Return the folder in which the images of these names lie."""
    tried = list(names)
    for folder in IMAGE_FOLDERS:
        if any((root / folder / name).is_file() for name in tried):
            return root / folder
    raise ConfigError(
        f"data.path={root} holds none of the images that its annotations name, such as {tried[0] if tried else '?'}; "
        f"looked in {', '.join(IMAGE_FOLDERS)}. Unpack AffectNet's images into one of them."
    )


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not is_junk([path.name])] if folder.is_dir() else []


def _affect(value: Any) -> float:
    """Return a valence or an arousal; AffectNet marks missing ones by -2."""
    number = float(value)
    return number if -1 <= number <= 1 else math.nan


def _points(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32).reshape(N_LANDMARKS, 2)
