"""Checksums of large files, at the speed of the memory: they find damage, and no forgery."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PART = 2**25
STEP = 2**20


def file_checksums(path: Path) -> list[int]:
    """Return the CRC-32 of each 32 MiB of a file, computed on all cores."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda start: _checksum(path, start), range(0, path.stat().st_size, PART)))


def _checksum(path: Path, start: int) -> int:
    value = 0
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for _ in range(PART // STEP):
            value = zlib.crc32(file.read(STEP), value)
    return value
