"""Archives and tables that anyone may have made: opened in one place, in bounded time and memory."""

from __future__ import annotations

import csv
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import IO, Any, Literal

from src.utils.errors import ConfigError

# What is unpacked, listing included, may have as many times the bytes of the archive; images and pixels in CSV files
# have no more than 10. Small archives of little but zeros, as tests have them, may have this many in any case.
MAX_RATIO, MIN_BYTES = 200, 2**26
MAX_MEMBERS = 2**21
# What file managers leave behind.
JUNK = {"thumbs.db", "desktop.ini", "__macosx"}
# Of names and other headers before a file in a tar archive, which are read at once.
MAX_HEADER = 2**20
# Characters; a row of FER2013 has 9,000.
MAX_LINE = 2**20
# What damaged archives and tables raise, some of it deep within tarfile.
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, csv.Error, struct.error),
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError),
)
Kind = Literal["file", "folder", "link"]
_LONG_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")


@dataclass(frozen=True)
class Member:
    """A member of an archive.

    Attributes:
        name: Its path, with forward slashes.
        kind: `file`, `folder`, or `link` for anything else.
        opener: Opens it for reading.
    """

    name: str
    kind: Kind
    opener: Callable[[], IO[bytes]]


@contextmanager
def open_archive(path: Path, argument: str, expected: str) -> Iterator[Iterator[Member] | None]:
    """Yield the members of a .zip (by name) or a .tar (also compressed; as they come), None for any other file.

    Members can be read while the context lasts.

    Args:
        path: The file.
        argument: What named it, such as `data.path`, for messages.
        expected: What is expected there, for messages.

    Raises:
        ConfigError: If it is damaged, or unpacks to far more than it has.
    """
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path, tarinfo=_TarInfo) as archive:
                yield _tar_members(archive, _allowance(path))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                yield _zip_members(bundle, _allowance(path))
        else:
            yield None
    except ConfigError:
        raise
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(f"{argument}={path} cannot be read ({reason}); expected {expected}.") from error


@contextmanager
def open_table(path: Path, argument: str, expected: str, columns: Sequence[str] = ()) -> Iterator[Rows]:
    """Yield the rows of a CSV file, the header first; empty lines are left out, and a byte-order mark.

    Args:
        path: The file, or a folder or an archive that holds it.
        argument: What named it, for messages.
        expected: What is expected there, for messages.
        columns: Of several .csv files, the first with these columns is taken.

    Raises:
        ConfigError: If it is damaged, holds no table, or is not UTF-8.
    """
    with _open_members(path, argument, expected) as members:
        opener: Callable[[], IO[bytes]] = partial(_opened, path)
        if members is not None:
            # Not listed first: a compressed archive would be unpacked to its end for that.
            others: list[Callable[[], IO[bytes]]] = []
            for one in members:
                if one.kind == "file" and is_table(one.name):
                    if set(columns) <= set(_header(one.opener)):
                        others.insert(0, one.opener)
                        break
                    others.append(one.opener)
            if not others:
                raise ConfigError(f"{argument}={path} holds no .csv file; expected {expected}.")
            opener = others[0]
        with opener() as file:
            yield Rows(file)


@contextmanager
def _open_members(path: Path, argument: str, expected: str) -> Iterator[Iterator[Member] | None]:
    """Yield the members of an archive, or of a folder; None for any other file."""
    if not path.is_dir():
        with open_archive(path, argument, expected) as members:
            yield members
        return
    files = sorted(file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file())
    try:
        yield (Member(file.relative_to(path).as_posix(), "file", partial(_opened, file)) for file in files)
    except DAMAGED as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{argument}={path} cannot be read ({error}); expected {expected}.") from error


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def is_table(name: str) -> bool:
    """Whether a file's name is that of a CSV file, and not of what file managers leave behind."""
    return name.lower().endswith(".csv") and not is_junk(PurePosixPath(name).parts)


def is_junk(parts: Iterable[str]) -> bool:
    """Whether a path belongs to what file managers leave behind, or is hidden."""
    return any(part.startswith(".") or part.lower() in JUNK for part in parts)


def _header(opener: Callable[[], IO[bytes]]) -> list[str]:
    with opener() as file:
        return [name.strip() for name in next(Rows(file), [])]


class Rows(Iterator[list[str]]):
    """The rows of a CSV file without its empty lines."""

    def __init__(self, file: IO[bytes]) -> None:
        """Start at the first line of a file."""
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")  # which closes it, if dropped
        self._reader = csv.reader(_lines(self._text))

    @property
    def line_num(self) -> int:
        """Number of the lines read, as that of a `csv.reader`."""
        return self._reader.line_num

    def __next__(self) -> list[str]:
        """Return the next row that has something in it."""
        return next(row for row in self._reader if any(field.strip() for field in row))


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise csv.Error(f"a line of more than {MAX_LINE:,} characters")
        yield line


def _allowance(path: Path) -> int:
    return max(MIN_BYTES, MAX_RATIO * path.stat().st_size)


def _check_size(unpacked: int, allowance: int) -> None:
    if unpacked > allowance:
        raise ValueError(f"it unpacks to {unpacked:,} bytes or more, {MAX_RATIO} times what it has: a bomb?")


def _zip_members(bundle: zipfile.ZipFile, allowance: int) -> Iterator[Member]:
    infos = sorted(bundle.infolist(), key=lambda info: info.filename)
    _check_size(sum(info.file_size for info in infos), allowance)
    for info in infos:
        name = info.filename.replace("\\", "/")  # some Windows programs write backslashes
        is_link = S_ISLNK(info.external_attr >> 16)  # the mode, where a Unix program stored it
        yield Member(
            name, "folder" if name.endswith("/") else "link" if is_link else "file", partial(bundle.open, info)
        )


def _tar_members(archive: tarfile.TarFile, allowance: int) -> Iterator[Member]:
    end = -1
    for number, info in enumerate(archive):
        if number > MAX_MEMBERS or archive.offset <= end:
            raise tarfile.ReadError(f"more than {MAX_MEMBERS:,} files, or a file that ends before it begins")
        end = archive.offset
        _check_size(end, allowance)
        kind: Kind = "file" if info.isfile() else "folder" if info.isdir() else "link"
        yield Member(info.name, kind, partial(_extract, archive, info))
    # An archive that breaks off inside a header, where `tarfile` stops without a word. Compressed ones need no check:
    # their decompressor misses its end mark.
    if isinstance(archive.fileobj, io.BufferedReader):
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("it breaks off, or is damaged in the middle")


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise OSError("not a file")
    return file


class _TarInfo(tarfile.TarInfo):
    """The header of a member, of bounded size; sparse files, which a few bytes can make endless, are refused."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarInfo:
        """Return the header that a block holds."""
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _LONG_HEADERS and info.size > MAX_HEADER):
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info

    def _refuse_sparse(self, *args: Any) -> Any:
        raise tarfile.ReadError("a sparse file")

    # By these, tarfile reads the four forms of sparse files; there are no public ones.
    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse
