"""The packed store: every image of a data set, decoded once, memory-mapped.

A store is a folder of four files: `store.json` (names, skipped files, what was left out), `index.npz` (one row an
image), `pixels.bin` (uint8 pixels, one image after the other) and `checksums.json` (of the others, compared whenever
the store is opened). `src.data.store.store_writer` writes it beside its place and renames it: a folder of that
name is always complete.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from src.data.vocabulary import CANONICAL
from src.utils.arrays import read_arrays
from src.utils.checksums import file_checksums
from src.utils.errors import ConfigError
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
        label: Canonical class name; empty if nobody annotated an expression, but valence or arousal.
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
        labels: Index into `class_names`, (N,); -1 where no expression is annotated.
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
            DamagedStore: If a file is missing or has changed; of stores of before checksums, the images count.
        """
        self.path = path
        try:
            known = _verify(path)
            self._read(path)
            if not known:
                self._verify_images()
        # That a disk does not answer is another matter.
        except (FileNotFoundError, IsADirectoryError, ValueError) as error:
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

    def _verify_images(self) -> None:
        """Raise ValueError if an image is not the one that was written."""
        for row, digest in enumerate(self.digests):
            if image_digest(self.image(row)).encode() != digest:
                raise ValueError(f"pixels.bin or index.npz has changed, at the image {self.ids[row]}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory map out, so that worker processes open their own."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_mapped", "_pixels")}

    @cached_property
    def _mapped(self) -> mmap.mmap:
        with (self.path / "pixels.bin").open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._mapped, dtype=np.uint8)

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

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Let the system read images that are about to be asked for from the disk, together, and nothing around them.

        Of a store larger than the memory, Linux would read megabytes around each image of a random order.
        """
        if not hasattr(mmap, "MADV_WILLNEED"):  # on Windows
            return
        self._mapped.madvise(mmap.MADV_RANDOM)
        starts = self._offsets[rows]
        ends = starts + self._shapes[rows].astype(np.int64).prod(axis=1)
        for start, end in zip((starts - starts % mmap.PAGESIZE).tolist(), ends.tolist(), strict=True):
            self._mapped.madvise(mmap.MADV_WILLNEED, start, end - start)

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the rows of a split, in the source's order."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def image_digest(image: NDArray[np.uint8]) -> str:
    """Return the hash of an image's shape and pixels, (H, W) gray or (H, W, 3)."""
    pixels = np.ascontiguousarray(image)
    return hashlib.blake2b(repr((*pixels.shape, 1)[:3]).encode() + pixels.data, digest_size=16).hexdigest()


def _verify(path: Path) -> bool:
    """Raise ValueError if a file is not what was written; return whether that is known."""
    known = require_json(path / CHECKSUMS, dict[str, list[int]], "")
    for name in FILES if known else ():
        if file_checksums(path / name) != known.get(name):
            raise ValueError(f"{name} has changed since it was written")
    return bool(known)


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
    affect = ~(np.isnan(index["valence"]) & np.isnan(index["arousal"]))
    for name, unknown, end in (("split", False, len(SPLITS)), ("label", affect & (index["label"] == -1), n_classes)):
        if not (((index[name] >= 0) | unknown) & (index[name] < end)).all():
            raise ValueError(f"index.npz has a {name} that is none")
