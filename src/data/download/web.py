"""Files at plain addresses, whose content is known by a checksum."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from src.data.download.sources import Source
from src.utils.checksums import has_checksum
from src.utils.errors import ConfigError
from src.utils.extras import require_extra

log = logging.getLogger(__name__)

CHUNK = 2**16  # of which one that is begun is lost where a transfer breaks off
TIMEOUTS = (10, 60)  # seconds to connect, and without a byte


@dataclass(frozen=True)
class WebFile(Source):
    """A file at an address that needs no login.

    Attributes:
        url: The address, without a password or a token.
        sha256: What the file must be.
        home: Page about it.
    """

    url: str
    sha256: str
    home: str

    @property
    def page(self) -> str:
        """Page about the file."""
        return self.home

    def fetch(self, folder: Path) -> None:
        """Download the file under the name that its address ends in.

        Raises:
            ConfigError: If it cannot be had.
        """
        fetch_file(self.url, folder / PurePosixPath(urlsplit(self.url).path).name, self.home, sha256=self.sha256)


def fetch_file(url: str, path: Path, page: str, *, sha256: str | None = None, blob_id: str | None = None) -> None:
    """Download a file, which appears at its place when it is whole; a transfer that broke off goes on.

    What is downloaded lies beside it, hidden, until its checksum is right.

    Args:
        url: Address.
        path: Where it goes, in a folder that exists; nobody else may be downloading it.
        page: Page about it, for messages.
        sha256: Its SHA-256.
        blob_id: Its git blob id, instead.

    Raises:
        ConfigError: If it cannot be had, or is another one.
    """
    require_extra("download")
    from src.data.download.problems import persistently

    def is_right() -> bool:
        return part.is_file() and has_checksum(part, sha256=sha256, blob_id=blob_id)

    log.info("Downloading %s from %s", path.name, page)
    part = path.with_name(f".{path.name}.part")
    if not is_right():  # a process may have ended just before its last step
        persistently(lambda: _go_on(url, part, page), page, lambda: f"Open {page} in a browser, and see what it wants.")
    if not is_right():
        size = part.stat().st_size
        part.unlink()
        expected = f"SHA-256 {sha256}" if sha256 else f"git blob id {blob_id}"
        raise ConfigError(
            f"the {size:,} bytes from {page} are not the file with the {expected}: it was damaged on the way, or "
            "replaced there. They were removed; try again, and if it stays so, report it."
        )
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _go_on(url: str, part: Path, page: str) -> None:
    """Download what is missing of a file."""
    import pooch
    from requests import HTTPError
    from tqdm import tqdm

    size = part.stat().st_size if part.is_file() else 0
    # Uncompressed: ranges count the bytes of what is sent.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={size}-"} if size else {})}
    if size:
        log.info("Going on after the first %s bytes.", f"{size:,}")
    # Messages about a break would stand on the line of pooch's own bar. It sets the total, and takes no bar with none.
    with part.open("ab") as file, tqdm(total=1, unit="B", unit_scale=True, leave=False) as bar:
        download: Callable[..., None] = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=CHUNK,
            headers=headers,
            timeout=TIMEOUTS,
            hooks={"response": lambda response, **_: _look_at(response, file, size, page)},
        )
        try:
            download(url, file, None)
        except HTTPError as error:
            if error.response is None or error.response.status_code != 416 or not size:
                raise
            file.truncate(0)  # more than the server has, or something else
    if part.stat().st_size == 0 and size:
        _go_on(url, part, page)


def _look_at(response: Any, file: Any, size: int, page: str) -> None:
    """Refuse a web page, and begin anew where the server does not go on after what is there."""
    from src.data.download.problems import web_page

    if response.is_redirect or not response.ok:
        return
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise web_page(page)
    continues = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
    if size and not continues:
        file.truncate(0)
