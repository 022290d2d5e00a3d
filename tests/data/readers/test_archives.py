"""Archives and tables that would take any memory or time are refused before they do."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.readers.archives import MAX_HEADER, MAX_LINE, MIN_BYTES, open_archive, open_table
from src.utils.errors import ConfigError

BLOCK = tarfile.BLOCKSIZE


def header(name: str = "a.png", size: int = 0, kind: bytes = tarfile.REGTYPE, **pax: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, pax
    return info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


def members(path: Path) -> list[str]:
    with open_archive(path, "data.path", "images") as found:
        return [member.name for member in found or ()]


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.png", "GNU.sparse.realsize": "9"}
BOMBS = {
    "a map of a sparse file that never ends": header(size=BLOCK, **SPARSE) + b"1000000000\n".ljust(BLOCK, b"1"),
    "an old sparse file": header(kind=tarfile.GNUTYPE_SPARSE, size=BLOCK) + bytes(BLOCK),
    "a sparse file by two headers": header(**{"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1"}),
    "a name of gigabytes": header("././@LongLink", 2**34, tarfile.GNUTYPE_LONGNAME) + bytes(BLOCK),
    "other headers of gigabytes": header("pax", MAX_HEADER + 1, tarfile.XHDTYPE) + bytes(BLOCK),
    "a file that ends before it begins": header("pax", 14, tarfile.XHDTYPE)
    + b"14 size=-1536\n".ljust(BLOCK, b"\0")
    + header(),
    "headers within headers": header("pax", 0, tarfile.XHDTYPE) * 5000,
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_headers_that_would_take_any_time_or_memory_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("first.png") + content + bytes(2 * BLOCK))
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"data\.path=.*a\.tar cannot be read"):
        members(path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_tars_that_unpack_to_far_more_are_refused(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.tar.{suffix}"
    size = MIN_BYTES + BLOCK
    path.write_bytes(pack(header(size=size) + bytes(size) + header("b.png") + bytes(2 * BLOCK)))
    with pytest.raises(ConfigError, match="a bomb"):
        members(path)


def test_zips_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for i in range(3):
            bundle.writestr(f"{i}.png", bytes(MIN_BYTES // 2))
    with pytest.raises(ConfigError, match="a bomb"):
        members(path)


def test_a_small_archive_of_zeros_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("0.png", bytes(MIN_BYTES // 2))
    assert members(path) == ["0.png"]


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1" * (MAX_LINE + 1))
    with (
        pytest.raises(ConfigError, match=r"data\.votes_path=.*a line of more than"),
        open_table(path, "data.votes_path", "votes") as rows,
    ):
        assert next(rows) == ["a", "b"]
        next(rows)


def test_tables_are_read_from_where_they_are(tmp_path: Path) -> None:
    table = "\ufeffa,b\r\n1,2\r\n".encode()
    (tmp_path / "a.csv").write_bytes(table)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("b/a.csv", table)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("b/a.csv")
        info.size = len(table)
        tar.addfile(info, io.BytesIO(table))
    for name in ("a.csv", "a.zip", "a.tar.gz"):
        with open_table(tmp_path / name, "data.path", "a table") as rows:
            assert list(rows) == [["a", "b"], ["1", "2"]]
