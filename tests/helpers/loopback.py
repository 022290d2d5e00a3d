"""A server on this machine that answers as told, well or badly; also as the proxy on the way to any other one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Loopback:
    """What a server answers, and what it was asked.

    Attributes:
        address: Its address, without a slash at the end.
        answers: By path, the answers to the first, second, ... request; the last one stays.
        asked: Method, address and `Range` of every request.
    """

    address: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


def content(
    body: bytes,
    *,
    kind: str = "application/octet-stream",
    ranges: bool = True,
    length: bool = True,
    cut: int | None = None,
    **headers: str,
) -> Answer:
    """Answer with a file.

    Args:
        body: The file.
        kind: Its type.
        ranges: Whether to send what is asked for of it, or always all.
        length: Whether to say how much will come.
        cut: After how many bytes the connection breaks off; None for never.
        **headers: Further headers, with `_` for `-`.
    """

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range") if ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start >= len(body) > 0:
            status(416)(handler)
            return
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Type", kind)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if ranges:
            handler.send_header("Accept-Ranges", "bytes")
        if length:
            handler.send_header("Content-Length", str(len(body) - start))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[start:cut])

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and headers, with `_` for `-`, alone."""
    return lambda handler: _status(handler, code, headers)


def _status(handler: BaseHTTPRequestHandler, code: int, headers: dict[str, str]) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def loopback() -> Iterator[Loopback]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            served.asked.append((self.command, self.path, self.headers.get("Range")))
            answers = served.answers.get(urlsplit(self.path).path, [status(404)])
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Loopback(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
