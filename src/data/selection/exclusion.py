"""Images that are left out because another data set, whose store is at hand, has them, too."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.selection.near_duplicates import Matches, find_matches, fingerprints
from src.data.store.packed_store import FORMAT, SPLITS, PackedStore
from src.utils.arrays import read_arrays
from src.utils.atomic_files import atomic_write
from src.utils.errors import ConfigError
from src.utils.schemas import read_json

log = logging.getLogger(__name__)


def excluded_rows(store: PackedStore, exclude: Sequence[str], cache: Path) -> NDArray[np.bool_]:
    """Return which images of a store equal, exactly or nearly, one of other stores, (N,); report them.

    Args:
        store: The images.
        exclude: Data sets, by name or by the name of their store.
        cache: Folder of the stores.

    Raises:
        ConfigError: If there is no such store, or more than one.
    """
    excluded = np.zeros(len(store), bool)
    for name in exclude:
        other = PackedStore(_find_store(name, cache))
        if other.path.name == store.path.name:
            raise ConfigError(f"data.exclude={name} is the data set itself; name another one, or null.")
        matches = _matches(store, other)
        _report(name, store, other, matches)
        excluded |= matches.exact | matches.near
    return excluded


def _find_store(name: str, cache: Path) -> Path:
    found: list[Path] = []
    if re.fullmatch(r"\w+(-[0-9a-f]{16})?", name):
        pattern = name if "-" in name else f"{name}-{'[0-9a-f]' * 16}"
        found = [path for path in sorted(cache.glob(pattern)) if _is_current(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"data.exclude={name}: {cache} has several stores of it; name one of {', '.join(p.name for p in found)}, "
            "or remove the others."
        )
    data = name.split("-")[0]
    raise ConfigError(
        f"data.exclude={name}: {cache} has no store of it. Build it with: "
        f"python -m src.prepare data={data} data.path=... data_dir={cache.parent}"
    )


def _is_current(folder: Path) -> bool:
    """Whether a store is of the format that this version reads."""
    return bool(read_json(folder / "store.json", dict[str, Any]).get("format") == FORMAT)


def _matches(store: PackedStore, other: PackedStore) -> Matches:
    """Return the images that two stores share; searched for once and kept in the folder of the first."""
    path = store.path / f"matches-{other.path.name}.npz"
    if path.exists():
        try:
            known = read_arrays(path)
            sizes = {"exact": len(store), "near": len(store), "found": len(other)}
            return Matches(**{name: known[name].astype(bool).reshape(size) for name, size in sizes.items()})
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is damaged (%s) and made anew.", path, error)
    log.info("Looking for the images of %s in %s", other.path.name, store.path.name)
    matches = find_matches(fingerprints(store), fingerprints(other))
    try:
        with atomic_write(path) as scratch, scratch.open("wb") as file:
            np.savez(file, exact=matches.exact, near=matches.near, found=matches.found)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; free some space or allow writing there, or set data_dir "
            "to another folder."
        ) from error
    return matches


def _report(name: str, store: PackedStore, other: PackedStore, matches: Matches) -> None:
    gone = matches.exact | matches.near
    counts = ", ".join(f"{split} {int(gone[store.rows(split)].sum()):,}" for split in SPLITS)
    found = ", ".join(
        f"{split} {int(matches.found[rows].sum()):,} of {len(rows):,}"
        for split, rows in ((split, other.rows(split)) for split in SPLITS)
    )
    log.info(
        "data.exclude=%s: left out %s (%s exact, %s near duplicates); found of %s: %s",
        *(name, counts, f"{int(matches.exact.sum()):,}", f"{int(matches.near.sum()):,}", name, found),
    )
