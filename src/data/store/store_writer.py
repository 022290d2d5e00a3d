"""Writes packed stores, each at once or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from src.data.store.packed_store import (
    CHECKSUMS,
    COLUMNS,
    FILES,
    FORMAT,
    OPTIONAL,
    SPLITS,
    DamagedStore,
    PackedStore,
    Record,
    Skipped,
    image_digest,
)
from src.data.vocabulary import canonical_order
from src.utils.atomic_files import sync_files, write_json
from src.utils.checksums import file_checksums
from src.utils.errors import ConfigError
from src.utils.locks import alone


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
    names = canonical_order([label for label in columns["label"] if label])
    index = {
        "id": np.array(columns["id"]),
        "split": np.array([SPLITS.index(split) for split in columns["split"]], dtype=np.uint8),
        "label": np.array([names.index(label) if label else -1 for label in columns["label"]], dtype=np.int16),
        "digest": np.array(columns["digest"], dtype="S32"),
        "offset": np.array(columns["offset"], dtype=np.int64),
        "shape": np.array(columns["shape"], dtype=np.int32),
        "valence": np.array(columns["valence"], dtype=np.float32),
        "arousal": np.array(columns["arousal"], dtype=np.float32),
    }
    for name in OPTIONAL:
        if any(values is not None for values in columns[name]):
            missing = np.full(COLUMNS[name][1], np.nan, dtype=np.float32)
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
        columns["digest"].append(image_digest(image))
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
