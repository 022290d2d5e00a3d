"""Trees of small synthetic images with the layout of real data sets, and data modules built from `conf/data/`."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class
from numpy.typing import NDArray
from PIL import Image

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import Record, Skipped
from src.utils.groups import load_group


def build(name: str, path: Path | None, cache: Path, **options: Any) -> StoreDataModule:
    """Build `data=name data.path=path data_dir=cache` from its YAML; None leaves the path unset."""
    own = load_group("data", name)
    keys = {key: value for key, value in own.items() if not key.startswith("_")}
    shared = {"path": None if path is None else str(path), "data_dir": str(cache), "transform": None, "seed": 0}
    module: StoreDataModule = get_class(own["_target_"])(**{**keys, **shared, **options})
    return module


def contents(module: StoreDataModule) -> tuple[dict[str, Record], dict[str, str]]:
    """Return a data set's records by id, and the reasons of what it skips by id."""
    entries = list(module.records())
    records = {entry.id: entry for entry in entries if isinstance(entry, Record)}
    skipped = {entry.id: entry.reason for entry in entries if isinstance(entry, Skipped)}
    assert len(records) + len(skipped) == len(entries), "an id occurs twice"
    return records, skipped


def pixels(key: int, height: int = 12, width: int | None = None, gray: bool = False) -> NDArray[np.uint8]:
    """Return noise that depends on `key`, so that no two images are duplicates."""
    shape = (height, width or height) if gray else (height, width or height, 3)
    return np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Return the image as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes | None = None, key: int | None = None) -> None:
    """Write a file, by default an image that depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels(zlib.crc32(path.name.encode()) if key is None else key)) if data is None else data)


def zipped(folder: Path, archive: Path) -> Path:
    """Pack a folder's files into a zip, paths relative to the folder."""
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in _files(folder):
            bundle.write(path, path.relative_to(folder))
    return archive


def tarred(folder: Path, archive: Path) -> Path:
    """Pack a folder's files into a tar, compressed as the name says, in reverse order."""
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(archive.suffix, "w")
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for path in reversed(list(_files(folder))):
            tar.add(path, f"./{path.relative_to(folder)}")
    return archive


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
