"""Data sets and competitions of Kaggle, by `kagglehub`, with the credentials that the user has set up for it."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.data.download.sources import Source
from src.data.readers.archives import open_archive
from src.utils.errors import ConfigError
from src.utils.extras import require_extra

WEB = "https://www.kaggle.com"
CREDENTIALS = (
    f"Make an API token at {WEB}/settings and put it into ~/.kaggle/access_token or into the environment variable "
    "KAGGLE_API_TOKEN; a kaggle.json of earlier days in ~/.kaggle is as good."
)
# What unpacking a damaged archive, or reading another answer than data, raises; OSError is that of the disk.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, LookupError, TypeError, RuntimeError)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2")
PAGE_STARTS = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class KaggleDataset(Source):
    """A data set of Kaggle, unpacked into a folder of its name.

    Attributes:
        handle: `owner/name`.
    """

    handle: str

    @property
    def page(self) -> str:
        """Its page."""
        return f"{WEB}/datasets/{self.handle}"

    def fetch(self, folder: Path) -> None:
        """Download the newest version.

        Raises:
            ConfigError: If Kaggle does not give it.
        """
        require_extra("download")
        import kagglehub

        with _scratch(folder) as scratch:
            unpacked = _fetched(lambda: str(kagglehub.dataset_download(self.handle)), scratch, self.page, self.page)
            unpacked.replace(folder / self.handle.partition("/")[2])


@dataclass(frozen=True)
class KaggleCompetition(Source):
    """A file of a competition of Kaggle, as it is.

    Attributes:
        competition: Its name in addresses.
        file: Name of the file.
    """

    competition: str
    file: str

    @property
    def page(self) -> str:
        """Its page."""
        return f"{WEB}/competitions/{self.competition}"

    def fetch(self, folder: Path) -> None:
        """Download the file.

        Raises:
            ConfigError: If Kaggle does not give it.
        """
        require_extra("download")
        import kagglehub

        with _scratch(folder) as scratch:
            path = _fetched(
                lambda: str(kagglehub.competition_download(self.competition, self.file)),
                *(scratch, self.page, f"{self.page}/rules"),
            )
            _check_file(path, self.page)
            path.replace(folder / self.file)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Let kagglehub keep its files in a hidden folder, where a transfer goes on; it is removed at the end."""
    scratch = folder / ".kaggle"
    # The copies that notebooks of Kaggle and Colab mount cannot be moved.
    wanted = {"KAGGLEHUB_CACHE": str(scratch), "DISABLE_KAGGLE_CACHE": "true", "DISABLE_COLAB_CACHE": "true"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield scratch
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    shutil.rmtree(scratch)


def _fetched(download: Callable[[], str], scratch: Path, page: str, consent: str) -> Path:
    """Return where kagglehub has put what it downloads.

    Args:
        download: Calls kagglehub.
        scratch: Where it keeps its files.
        page: Page of the source.
        consent: Page of what has to be accepted.

    Raises:
        ConfigError: If Kaggle refuses, or what came is damaged: then it is removed.
    """
    from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError

    from src.data.download.problems import persistently, web_page

    has_credentials = _has_credentials()

    def permission() -> str:
        if not has_credentials:
            return f"No credentials for Kaggle were found. {CREDENTIALS}"
        return f"Log in, accept what {consent} asks for, and try again; or your token is no longer valid. {CREDENTIALS}"

    try:
        return Path(persistently(download, page, permission))
    except UnauthenticatedError:
        raise ConfigError(f"{page} is given to those who log in. {permission()}") from None
    except ConfigError:
        raise
    except (DataCorruptionError, *DAMAGED):
        came_as_page = any(map(_is_page, scratch.rglob("*.archive")))
        shutil.rmtree(scratch, ignore_errors=True)
        raise (web_page(page) if came_as_page else _damaged(page)) from None


def _has_credentials() -> bool:
    from kagglehub.config import get_kaggle_credentials

    try:
        return get_kaggle_credentials() is not None
    except (ValueError, TypeError, OSError):
        raise ConfigError(f"the credentials for Kaggle, kaggle.json, cannot be read. {CREDENTIALS}") from None


def _check_file(path: Path, page: str) -> None:
    """Remove and refuse a file that is a web page, or an archive that is damaged or breaks off."""
    from src.data.download.problems import web_page

    problem = web_page(page) if _is_page(path) else None
    if problem is None and path.suffix in ARCHIVES:
        try:
            with open_archive(path, "the download", "an archive") as members:
                problem = _damaged(page) if members is None else None
                deque(members or (), maxlen=0)
        except ConfigError:
            problem = _damaged(page)
    if problem is not None:
        path.unlink()
        raise problem


def _damaged(page: str) -> ConfigError:
    return ConfigError(f"what came from {page} is damaged, and was removed. Try again.")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith(PAGE_STARTS)
