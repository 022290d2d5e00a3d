"""The packed store: every image of a data set, decoded once, memory-mapped.

A store is a folder of four files: `store.json` (names, skipped files, what was left out), `index.npz` (one row a
image), `pixels.bin` (uint8 pixels, one image after the other) and `checksums.json` (of the others, compared whenever
the store is opened). It is written beside its place and renamed into it, so a folder of that name is always complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from src.data.vocabulary import CANONICAL, canonical_order
from src.utils.arrays import read_arrays
from src.utils.atomic_files import sync_files, write_json
from src.utils.checksums import file_checksums
from src.utils.errors import ConfigError
from src.utils.locks import alone
from src.utils.schemas import require_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMAT = 2
FILES = ("store.json", "index.npz", "pixels.bin")
CHECKSUMS = "checksums.json"
# The columns of `index.npz`: kinds of their values, and the shape of a row's.
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    **{"id": ("U", ()), "digest": ("S", ()), "split": ("iu", ()), "label": ("iu", ())},
    **{"offset": ("i", ()), "shape": ("i", (3,)), "valence": ("f", ()), "arousal": ("f", ())},
    **{"landmarks": ("f", (68, 2)), "distribution": ("f", (len(CANONICAL),))},
}
OPTIONAL = ("landmarks", "distribution")


@dataclass(frozen=True)
class Record:
    """One image of a data set.

    Attributes:
        id: The source's own, stable name of the image.
        split: `train`, `val` or `test`.
        label: Canonical class name.
        image: uint8 pixels, (H, W) gray or (H, W, 3) RGB.
        valence: In [-1, 1], NaN if not annotated.
        arousal: In [-1, 1], NaN if not annotated.
        landmarks: x and y of the 68 iBUG points in pixels, (68, 2), or None.
        distribution: Probabilities of the eight canonical classes, (8,), or None where there is a label only.
    """

    id: str
    split: Split
    label: str
    image: NDArray[np.uint8]
    valence: float = float("nan")
    arousal: float = float("nan")
    landmarks: NDArray[np.float32] | None = None
    distribution: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read.

    Attributes:
        id: The source's own name of the image.
        reason: Why it was skipped.
    """

    id: str
    reason: str


class Description(TypedDict):
    """Content of `store.json`."""

    class_names: list[str]
    skipped: list[Skipped]
    left_out: dict[str, int]


class DamagedStore(ConfigError):
    """A store whose files are not what was written; the message names it and says why."""


class PackedStore:
    """Read-only view of a store, whose files are those that were written.

    Attributes:
        path: Folder of the store.
        class_names: Classes of the data set, in canonical order.
        ids: Names of the images, (N,).
        splits: Index into `SPLITS`, (N,).
        labels: Index into `class_names`, (N,).
        digests: Hash of shape and pixels, (N,); equal for byte-identical images.
        valence: (N,), NaN where missing.
        arousal: (N,), NaN where missing.
        landmarks: (N, 68, 2) in pixels, NaN where missing, or None if no image has any.
        distribution: Probabilities of the eight canonical classes, (N, 8), NaN where missing, or None if no image has
            any.
        skipped: Images that could not be read.
        left_out: Reason -> number of readable images that the data set's own rules left out.
    """

    def __init__(self, path: Path) -> None:
        """Open a store.

        Args:
            path: Folder of the store.

        Raises:
            DamagedStore: If a file is missing or has changed; stores of before checksums must only be readable.
        """
        self.path = path
        try:
            _verify(path)
            self._read(path)
        except (
            FileNotFoundError,
            IsADirectoryError,
            ValueError,
        ) as error:  # that a disk does not answer is another matter
            raise DamagedStore(
                f"the image store {path} is damaged ({error or type(error).__name__}). Remove the folder and build it "
                "again with python -m src.prepare."
            ) from error

    def _read(self, path: Path) -> None:
        meta = require_json(path / "store.json", Description, "")
        self.class_names, self.skipped = tuple(meta["class_names"]), meta["skipped"]
        self.left_out = meta["left_out"]
        index = read_arrays(path / "index.npz")
        _check_index(index, len(self.class_names), (path / "pixels.bin").stat().st_size)
        self.ids, self.splits, self.labels = index["id"], index["split"], index["label"]
        self.digests = index["digest"]
        self.valence, self.arousal = index["valence"], index["arousal"]
        self.landmarks = index.get("landmarks", None)
        self.distribution = index.get("distribution", None)
        self._offsets, self._shapes = index["offset"], index["shape"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory map out, so that worker processes open their own."""
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.memmap(self.path / "pixels.bin", dtype=np.uint8, mode="r")

    @cached_property
    def is_gray(self) -> bool:
        """Whether no image has colors."""
        return bool((self._shapes[:, 2] == 1).all())

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image, (H, W) gray or (H, W, 3) RGB, as a view of the memory map."""
        height, width, channels = self._shapes[row]
        start = self._offsets[row]
        pixels = self._pixels[start : start + height * width * channels]
        return pixels.reshape((height, width) if channels == 1 else (height, width, channels))

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the rows of a split, in the source's order."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def _verify(path: Path) -> None:
    """Raise ValueError if a file is not what was written."""
    known = require_json(path / CHECKSUMS, dict[str, list[int]], "")
    for name in FILES if known else ():
        if file_checksums(path / name) != known.get(name):
            raise ValueError(f"{name} has changed since it was written")


def _check_index(index: Mapping[str, NDArray[Any]], n_classes: int, n_bytes: int) -> None:
    """Raise ValueError if columns are not those of a store with so many classes and bytes of pixels."""
    n = len(index["id"]) if "id" in index and index["id"].ndim else -1
    for name, (kinds, shape) in COLUMNS.items():
        if name not in index and name in OPTIONAL:
            continue
        if name not in index or index[name].dtype.kind not in kinds or index[name].shape != (n, *shape):
            raise ValueError(f"index.npz has no column {name}, or a strange one")
    sizes, ends = index["shape"].astype(np.int64), np.cumsum(index["shape"].astype(np.float64).prod(axis=1))
    if not (np.isin(sizes[:, 2], (1, 3)).all() and (sizes > 0).all()) or n_bytes != (ends[-1] if n else 0):
        raise ValueError(f"pixels.bin has {n_bytes} bytes, which are not those of its images")
    if not np.array_equal(index["offset"], np.cumsum(sizes.prod(axis=1)) - sizes.prod(axis=1)):
        raise ValueError("index.npz has images beside their place")
    for name, end in (("split", len(SPLITS)), ("label", n_classes)):
        if not ((index[name] >= 0) & (index[name] < end)).all():
            raise ValueError(f"index.npz has a {name} that is none")


def write_store(
    path: Path, entries: Iterable[Record | Skipped], max_bad: float, left_out: Mapping[str, int] | None = None
) -> PackedStore:
    """Write a store atomically and open it.

    Args:
        path: Folder to create. If another process is creating it, its store is awaited and used; a damaged one is
            replaced.
        entries: Images, and those that could not be read.
        max_bad: Largest fraction of unreadable images that is accepted, in [0, 1].
        left_out: What `entries` does not hold, reason -> number of images; read once they are exhausted.

    Returns:
        The store.

    Raises:
        ConfigError: If nothing was readable, too much was not, or the disk is full.
    """
    scratch = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")) as no_other_writes:
            if no_other_writes:
                _remove_abandoned(path)
            if path.exists():
                with suppress(DamagedStore):
                    return PackedStore(path)
                shutil.rmtree(path)
            _write_and_rename(scratch, path, entries, max_bad, {} if left_out is None else left_out)
    except OSError as error:
        raise ConfigError(
            f"cannot write the image store {path}: {error.strerror or error}; free some space there or set data_dir "
            "to a folder with room."
        ) from error
    return PackedStore(path)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left half-written."""
    for scratch in path.parent.glob(f"{path.name}.tmp-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _write_and_rename(
    scratch: Path, path: Path, entries: Iterable[Record | Skipped], max_bad: float, left_out: Mapping[str, int]
) -> None:
    try:
        scratch.mkdir(exist_ok=True)
        _fill(scratch, entries, max_bad, left_out)
        sync_files(scratch)
        try:
            scratch.rename(path)
        except OSError:
            if not path.exists():  # without locks, another process may have created it meanwhile
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(folder: Path, entries: Iterable[Record | Skipped], max_bad: float, left_out: Mapping[str, int]) -> None:
    skipped: list[Skipped] = []
    with (folder / "pixels.bin").open("wb") as pixels:
        columns = _write_pixels(pixels, entries, skipped)
    n = len(columns["id"])
    _check_fraction(n, skipped, max_bad)
    names = canonical_order(columns["label"])
    index = {
        "id": np.array(columns["id"]),
        "split": np.array([SPLITS.index(split) for split in columns["split"]], dtype=np.uint8),
        "label": np.array([names.index(label) for label in columns["label"]], dtype=np.int16),
        "digest": np.array(columns["digest"], dtype="S32"),
        "offset": np.array(columns["offset"], dtype=np.int64),
        "shape": np.array(columns["shape"], dtype=np.int32),
        "valence": np.array(columns["valence"], dtype=np.float32),
        "arousal": np.array(columns["arousal"], dtype=np.float32),
    }
    for name, shape in (("landmarks", (68, 2)), ("distribution", (len(CANONICAL),))):
        if any(values is not None for values in columns[name]):
            missing = np.full(shape, np.nan, dtype=np.float32)
            index[name] = np.stack([missing if values is None else values for values in columns[name]])
    np.savez(folder / "index.npz", **index)  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle
    meta = {
        "format": FORMAT,
        "class_names": names,
        "skipped": [vars(entry) for entry in skipped],
        "left_out": dict(left_out),
    }
    (folder / "store.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    write_json(folder / CHECKSUMS, {name: file_checksums(folder / name) for name in FILES})


def _write_pixels(
    file: BinaryIO, entries: Iterable[Record | Skipped], skipped: list[Skipped]
) -> dict[str, Sequence[Any]]:
    fields = ("id", "split", "label", "valence", "arousal", "landmarks", "distribution")
    columns: dict[str, list[Any]] = {name: [] for name in (*fields, "digest", "offset", "shape")}
    for entry in entries:
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        image = np.ascontiguousarray(entry.image)
        shape = (*image.shape, 1)[:3]
        columns["offset"].append(file.tell())
        columns["shape"].append(shape)
        columns["digest"].append(hashlib.blake2b(repr(shape).encode() + image.data, digest_size=16).hexdigest())
        for name in fields:
            columns[name].append(getattr(entry, name))
        file.write(image.data)
    return dict(columns)


def _check_fraction(n: int, skipped: list[Skipped], max_bad: float) -> None:
    listing = "".join(f"\n  {entry.id}: {entry.reason}" for entry in skipped[:10])
    more = f"\n  ... and {len(skipped) - 10} more" if len(skipped) > 10 else ""
    if n == 0:
        raise ConfigError(f"data.path holds no readable image ({len(skipped)} unreadable).{listing}{more}")
    fraction = len(skipped) / (n + len(skipped))
    if fraction > max_bad:
        raise ConfigError(
            f"{len(skipped)} of {n + len(skipped)} images ({fraction:.1%}) are unreadable, more than "
            f"data.max_bad={max_bad}: repair them or raise data.max_bad.{listing}{more}"
        )
