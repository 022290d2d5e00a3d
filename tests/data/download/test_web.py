"""Files at plain addresses: whole or not at all, from where a transfer broke off, and what servers do instead."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from src.data.download.web import WebFile
from src.utils.errors import ConfigError
from tests.helpers.full_disk import full_disk
from tests.helpers.loopback import Loopback, content, status

BODY = os.urandom(2**20 + 17)
HALF = 2**19
TOKEN = "s3cr3t"
HOME = "https://faces.example/about"


def web_file(server: Loopback) -> WebFile:
    return WebFile("web", f"{server.address}/faces.csv", hashlib.sha256(BODY).hexdigest(), HOME)


def refusal(server: Loopback, folder: Path) -> str:
    """What a user reads, if neither that nor anything logged or chained holds a token, and nothing has its place."""
    with pytest.raises(ConfigError) as caught:
        web_file(server).fetch(folder)
    assert not (folder / "faces.csv").exists()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_at_its_place(server: Loopback, tmp_path: Path) -> None:
    server.answers["/faces.csv"] = [content(BODY)]
    web_file(server).fetch(tmp_path)
    assert (tmp_path / "faces.csv").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on(server: Loopback, tmp_path: Path, ranges: bool) -> None:
    """Where the server cannot go on in the middle, it begins anew."""
    server.answers["/faces.csv"] = [content(BODY, cut=HALF), content(BODY, ranges=ranges)]
    web_file(server).fetch(tmp_path)
    assert (tmp_path / "faces.csv").read_bytes() == BODY
    assert [asked for _, _, asked in server.asked] == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        (BODY[:HALF], [f"bytes={HALF}-"]),
        (BODY, []),  # ended before its last step
        (BODY + b"more", [f"bytes={len(BODY) + 4}-", None]),  # refused with status 416
    ],
)
def test_what_an_earlier_process_left_is_used(
    server: Loopback, tmp_path: Path, left: bytes, ranges: list[str | None]
) -> None:
    (tmp_path / ".faces.csv.part").write_bytes(left)
    server.answers["/faces.csv"] = [content(BODY)]
    web_file(server).fetch(tmp_path)
    assert (tmp_path / "faces.csv").read_bytes() == BODY
    assert [asked for _, _, asked in server.asked] == ranges


def test_what_breaks_off_again_and_again_is_kept_for_later(server: Loopback, tmp_path: Path) -> None:
    server.answers["/faces.csv"] = [content(BODY, cut=part * 2**17) for part in (1, 2, 3)]
    message = refusal(server, tmp_path)
    assert "breaks off" in message
    assert HOME in message
    assert (tmp_path / ".faces.csv.part").read_bytes() == BODY[: 3 * 2**17]


@pytest.mark.parametrize(
    "wrong",
    [
        content(BODY, length=False, cut=HALF),  # nobody can tell that more should come
        content(BODY[::-1]),
        content(b"<html>Log in</html>", kind="text/plain"),
    ],
)
def test_another_content_is_refused_and_removed(server: Loopback, tmp_path: Path, wrong) -> None:
    server.answers["/faces.csv"] = [wrong]
    message = refusal(server, tmp_path)
    assert web_file(server).sha256 in message
    assert list(tmp_path.iterdir()) == []


def test_a_page_to_log_in_is_not_taken_for_data(server: Loopback, tmp_path: Path) -> None:
    """What is there of the file stays."""
    (tmp_path / ".faces.csv.part").write_bytes(BODY[:HALF])
    server.answers["/faces.csv"] = [status(302, Location=f"{server.address}/login?token={TOKEN}")]
    server.answers["/login"] = [content(b"<html>Log in</html>", kind="text/html; charset=utf-8", ranges=False)]
    assert "instead of data a web page came" in refusal(server, tmp_path)
    assert (tmp_path / ".faces.csv.part").read_bytes() == BODY[:HALF]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(401), "not given to you"),
        (status(403), f"Open {HOME} in a browser"),
        (status(404), "no such file any more"),
        (status(429, Retry_After="120"), "Try again in 120 s"),
        (
            status(429, Retry_After=format_datetime(datetime.now(UTC) + timedelta(hours=2))),
            r"Try again in [1-7]\d\d\d s",
        ),
        (status(429, Retry_After=TOKEN), "Try again later"),
        (status(503), "a problem of its own"),
        (status(418), "status 418"),
    ],
)
def test_refusals_say_what_to_do(server: Loopback, tmp_path: Path, answer, expected: str) -> None:
    """At once: the server of the last redirect refuses, whose address holds a token."""
    server.answers["/faces.csv"] = [status(302, Location=f"{server.address}/store?token={TOKEN}")]
    server.answers["/store"] = [answer]
    message = refusal(server, tmp_path)
    assert re.search(expected, message)
    assert HOME in message
    assert len(server.asked) == 2


def test_no_network(server: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The address of a redirect with a password leads to a port where nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    address = f"http://someone:{TOKEN}@127.0.0.1:{port}/store?token={TOKEN}"
    server.answers["/faces.csv"] = [status(302, Location=address)]
    with caplog.at_level(logging.INFO):
        assert "cannot be reached" in refusal(server, tmp_path)
    assert "trying again" in caplog.text
    assert TOKEN not in caplog.text


def test_redirects_without_end(server: Loopback, tmp_path: Path) -> None:
    server.answers["/faces.csv"] = [status(302, Location=f"{server.address}/faces.csv?token={TOKEN}")]
    assert "TooManyRedirects" in refusal(server, tmp_path)


def test_a_full_disk_keeps_what_fits(server: Loopback, tmp_path: Path) -> None:
    server.answers["/faces.csv"] = [content(BODY)]
    with full_disk(HALF), pytest.raises(OSError, match="File too large"):
        web_file(server).fetch(tmp_path)
    assert not (tmp_path / "faces.csv").exists()
    web_file(server).fetch(tmp_path)
    assert (tmp_path / "faces.csv").read_bytes() == BODY
    assert server.asked[-1][2] == f"bytes={HALF}-"
