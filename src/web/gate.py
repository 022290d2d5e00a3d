"""Who may ask the demo for what: its own visitors, in requests of bounded size."""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.web.room import Room

log = logging.getLogger(__name__)

# The names by which a browser on this computer knows the demo; another is a foreign one that was made to lead here.
HOSTS = ("127.0.0.1", "localhost")
API = "/gradio_api/"
# What the demo posts to; Gradio has more, such as one that hands recordings to FFmpeg.
POSTS = tuple(API + name for name in ("upload", "queue/join", "cancel", "reset"))
READS = ("GET", "HEAD", "OPTIONS")
# Bytes of a request beside the file that it carries, and of one that carries none: frames of a camera come as text.
ENVELOPE = 2**16
MAX_MESSAGE = 2**24
# Seconds in which something more of a request has to arrive.
PATIENCE = 30.0
# What Gradio raises if a request names functions, sessions or parts that are not there, or holds something else there.
MISTAKES = (LookupError, TypeError, ValueError, AttributeError)


class Refusal(MultiPartException):
    """A request that is not read on; Gradio removes what it has written of the upload on this error alone."""

    def __init__(self, status: int, message: str) -> None:
        """Create the refusal.

        Args:
            status: HTTP's code.
            message: The reason.
        """
        super().__init__(message)
        self.status = status


def gates(room: Room, max_file: int) -> list[Middleware]:
    """Return what every request has to pass, from the outermost.

    Args:
        room: Where uploads lie.
        max_file: Largest file in bytes.
    """
    return [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(Gate, room=room, max_file=max_file)]


class Gate:
    """ASGI middleware that refuses foreign and oversized requests, and answers mistaken ones without a traceback."""

    def __init__(self, app: ASGIApp, room: Room, max_file: int) -> None:
        """Start.

        Args:
            app: What it guards.
            room: Where uploads lie.
            max_file: Largest file in bytes.
        """
        self.app, self.room, self.max_file = app, room, max_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            _check_caller(scope, headers)
            if scope["method"] in READS:
                await _Answer(send).given_by(self.app, scope, receive)
                return
            limit = self._limit(scope, headers)
        except Refusal as refusal:
            log.debug("Refused %s %s: %s", scope["method"], scope["path"], refusal.message)
            await PlainTextResponse(refusal.message, refusal.status)(scope, receive, send)
            return
        with self.room.reserved(limit) as there_is_room:
            if not there_is_room:
                await PlainTextResponse("The demo's folder is full; try again in a minute.", 507)(scope, receive, send)
                return
            await _Answer(send, _Body(receive, limit)).given_by(self.app, scope, receive)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """Return how many bytes the request may have."""
        path = scope["path"].rstrip("/")
        if path not in POSTS:
            raise Refusal(404, "Not found")
        limit = self.max_file + ENVELOPE if path == API + "upload" else MAX_MESSAGE
        stated = headers.get("content-length")
        if stated is None:
            return limit
        if not stated.isdecimal() or int(stated) > limit:
            raise Refusal(413, _too_large(limit))
        return int(stated)


class _Body:
    """What arrives of a request, up to a limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._size, self._ended = receive, limit, 0, False
        self.refusal: Refusal | None = None

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            Refusal: If the body is too large, too slow, or not sent to its end.
        """
        if self._ended:
            return await self._receive()
        try:
            return await self._next()
        except Refusal as refusal:
            self.refusal = refusal
            raise

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(PATIENCE):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, f"Nothing arrived for {PATIENCE:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise Refusal(400, "The request was broken off.")
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise Refusal(413, _too_large(self._limit))
        self._ended = not message.get("more_body", False)
        return message


class _Answer:
    """What is sent back, whatever becomes of the request."""

    def __init__(self, send: Send, body: _Body | None = None) -> None:
        self._send, self._body, self._started = send, body, False

    async def given_by(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Hand the request on, and answer in the place of code that fails on it."""
        try:
            await app(scope, self._body.receive if self._body else receive, self._sent)
        except Exception as error:
            if self._started and isinstance(error.__cause__, HTTPException):
                # Of a session that is not there, as the events say that were sent.
                await self._send({"type": "http.response.body", "body": b""})
            elif self._started:
                raise
            elif isinstance(error, Refusal):
                await PlainTextResponse(error.message, error.status)(scope, receive, self._sent)
            elif self._body and isinstance(error, MISTAKES):
                reason = f"{type(error).__name__}: {error}"
                log.warning("Refused %s %s (%s)", scope["method"], scope["path"], reason)
                await PlainTextResponse("The demo has nothing of the kind.", 400)(scope, receive, self._sent)
            else:
                raise

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            if self._body and self._body.refusal:  # which FastAPI would call a bad request
                message["status"] = self._body.refusal.status
        await self._send(message)


def _check_caller(scope: Scope, headers: Headers) -> None:
    """Raise if another site's page asks."""
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host')}":
        raise Refusal(403, "Other sites may not ask the demo.")
    # Browsers leave the origin out where a page only links to or shows something; following a link is a visit.
    visit = (scope["method"], headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if foreign and visit != ("GET", "navigate", "document"):
        raise Refusal(403, "Other sites may not ask the demo.")


def _too_large(limit: int) -> str:
    return f"The request has more than {limit:,} bytes."
