"""Fingerprints of data sources: by content and options, so that a store is never mistaken for another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from src.data.readers.file_tree import visible_files
from src.data.store.packed_store import FORMAT
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError
from src.utils.schemas import read_json


def source_fingerprint(source: Path | None, options: dict[str, Any], memo: Path) -> str:
    """Return a short hash of a source file's content and of the options that shape the store.

    Args:
        source: File to hash, or None for data that are generated. A folder counts by the names, sizes and times of
            its files.
        options: Whatever else determines the store; JSON-serializable.
        memo: JSON file that remembers hashes by (path, size, time), so that a large file is read once.

    Raises:
        ConfigError: If the source is neither a file nor a folder.
    """
    content = "" if source is None else _content_hash(source, memo)
    text = json.dumps([FORMAT, content, options], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _content_hash(source: Path, memo: Path) -> str:
    if source.is_dir():
        listing = sorted(
            (str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns) for p in visible_files(source)
        )
        return hashlib.blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()
    if not source.is_file():  # a device may never end
        found = "is neither a file nor a folder" if source.exists() else "does not exist"
        raise ConfigError(f"{source} {found}; expected the source of a data set. Check data.path and the like.")
    stat = source.stat()
    key = f"{source.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    known = read_json(memo, dict[str, str])
    if key not in known:
        with source.open("rb") as file:
            known[key] = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_json(memo, known)
    return known[key]
