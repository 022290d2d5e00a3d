"""Features of a frozen backbone on disk: memory-mapped, filled as needed, one entry an image of a packed store.

A folder holds `features.json` (what the features are) and, for each view of the images, `<view>.bin` (the values of
every image of the store, one after the other, maps with channels last), `<view>.sums.npy` (a checksum of each) and
`<view>.done.npy` (which of them are there). The values are on the disk before they are marked, so a killed job costs
only its last seconds. What a disk has changed since is noticed when the folder is opened, and counts as not there.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.utils.arrays import read_array
from src.utils.atomic_files import atomic_write, write_json
from src.utils.locks import alone

log = logging.getLogger(__name__)

View = Literal["plain", "mirrored"]
VIEWS: tuple[View, ...] = get_args(View)
FORMAT = 1
# Entries whose checksums a thread computes in one go.
ROWS_AT_ONCE = 256


class FeatureStore:
    """Features of the N images of a packed store, in one or two views.

    Attributes:
        path: Folder.
        n: Number of images of the packed store.
        shape: Shape of an image's features: (C, H, W), or (C,) for a vector.
        dtype: `torch.bfloat16`, `torch.float16` or `torch.float32`.
    """

    def __init__(self, path: Path, n: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Open a folder, which need not exist."""
        self.path, self.n, self.shape, self.dtype = path, n, tuple(shape), dtype
        self._verified = {view: np.zeros(n, bool) for view in VIEWS}
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory maps out, so that worker processes open their own."""
        return {key: value for key, value in self.__dict__.items() if key != "_maps"}

    @property
    def image_bytes(self) -> int:
        """Size of the features of one image in one view."""
        return math.prod(self.shape) * self.dtype.itemsize

    def missing(self, rows: NDArray[np.int64], view: View) -> NDArray[np.int64]:
        """Return those of some rows whose features are not there."""
        return rows[~self._done(view)[rows]]

    def _done(self, view: View) -> NDArray[np.bool_]:
        """Return which rows are there, (N,), and are what was written: none if a whole file is damaged."""
        values = self._values(view)
        if not values.is_file() or values.stat().st_size != self.n * self.image_bytes:
            return np.zeros(self.n, bool)
        done = self._load(self._marks(view), np.bool_)
        if not self._sums(view).is_file():  # of before there were any
            return done
        known, new = self._load(self._sums(view), np.uint32), np.flatnonzero(done & ~self._verified[view])
        right = self._checksums(view, new) == known[new]
        self._verified[view][new[right]] = True
        done[new[~right]] = False
        if not right.all() and not self._warned:
            self._warned = True
            log.warning("%s: the features of %d images are damaged and count as missing.", values, (~right).sum())
        return done

    def _load(self, file: Path, kind: type[np.generic]) -> NDArray[Any]:
        """Return an array of one number a row, (N,): zeros if there is none to be read."""
        try:
            found = read_array(file)
        except (OSError, ValueError):
            found = np.zeros(0)
        return np.asarray(found, kind) if found.shape == (self.n,) else np.zeros(self.n, kind)

    def _checksums(self, view: View, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the CRC-32 of what is stored for some rows."""
        if not len(rows):
            return np.zeros(0, np.uint32)
        entries = np.memmap(self._values(view), np.uint8, "r", shape=(self.n, self.image_bytes))
        parts = np.split(rows, range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE))
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda part: [zlib.crc32(entries[row].data) for row in part], parts)
            return np.array([value for part in found for value in part], np.uint32)

    def _values(self, view: View) -> Path:
        return self.path / f"{view}.bin"

    def _marks(self, view: View) -> Path:
        return self.path / f"{view}.done.npy"

    def _sums(self, view: View) -> Path:
        return self.path / f"{view}.sums.npy"

    @contextmanager
    def locked(self, description: dict[str, Any]) -> Iterator[None]:
        """Make the folder; within the block, no other process fills it. Waits for one that does.

        Args:
            description: Content of `features.json`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with alone(self.path / ".lock"):
            write_json(self.path / "features.json", description)
            yield

    @contextmanager
    def writer(self, view: View) -> Iterator[FeatureWriter]:
        """Open a view for writing; what was added counts from its last `commit` on."""
        values = self._values(view)
        done = self._done(view)
        if not values.exists():
            values.touch()
        with values.open("r+b") as file:
            file.truncate(self.n * self.image_bytes)  # to its final size, without taking the room yet
            sums = self._load(self._sums(view), np.uint32)
            if not self._sums(view).is_file():  # of before there were any
                sums[done] = self._checksums(view, np.flatnonzero(done))
            yield FeatureWriter(self, file, (self._marks(view), done), (self._sums(view), sums))

    def free_bytes(self) -> int:
        """Return the room on the disk, whether the folder exists or not."""
        place = next(parent for parent in (self.path, *self.path.parents) if parent.exists())
        return shutil.disk_usage(place).free

    @cached_property
    def _maps(self) -> dict[View, NDArray[np.uint8]]:
        shape = (self.n, self.image_bytes)  # in bytes: numpy has no bf16
        files = {view: self._values(view) for view in VIEWS}
        return {view: np.memmap(file, np.uint8, "r", shape=shape) for view, file in files.items() if file.is_file()}

    def read(self, rows: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
        """Return the features of B rows, each in one view.

        Args:
            rows: Rows, (B,).
            mirrored: Whether a row's mirror image is wanted, (B,).

        Returns:
            (B, C, H, W), channels last, or (B, C), in `dtype`.
        """
        found = np.empty((len(rows), self.image_bytes), np.uint8)
        for i, (row, mirror) in enumerate(zip(rows.tolist(), mirrored.tolist(), strict=True)):
            found[i] = self._maps["mirrored" if mirror else "plain"][row]
        values = torch.from_numpy(found).view(self.dtype)
        if len(self.shape) == 1:
            return values
        channels, height, width = self.shape
        return values.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class FeatureWriter:
    """Adds features to a view of a store."""

    def __init__(
        self,
        store: FeatureStore,
        file: Any,
        marks: tuple[Path, NDArray[np.bool_]],
        sums: tuple[Path, NDArray[np.uint32]],
    ) -> None:
        """Store what is written to."""
        self._store, self._file, self._marks, self._sums = store, file, marks, sums

    def add(self, rows: NDArray[np.int64], features: Tensor) -> None:
        """Write the features of some rows, (B, *shape).

        Raises:
            OverflowError: If a value is too large for the store's precision.
        """
        values = features.to(self._store.dtype)
        if not bool(torch.isfinite(values).all()):
            raise OverflowError(f"features are not finite in {self._store.dtype}")
        values = (values.permute(0, 2, 3, 1) if values.ndim == 4 else values).cpu().contiguous()
        entries = values.flatten(1).view(torch.uint8).numpy()
        for row, entry in zip(rows.tolist(), entries, strict=True):
            self._file.seek(row * self._store.image_bytes)
            self._file.write(entry.data)
            self._sums[1][row] = zlib.crc32(entry.data)
        self._marks[1][rows] = True

    def commit(self) -> None:
        """Bring what was added to the disk, then mark it as there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        for path, values in (self._sums, self._marks):
            with atomic_write(path, alone=True) as scratch, scratch.open("wb") as file:
                np.save(file, values)
