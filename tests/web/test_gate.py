"""What is hard to do to a real server; `test_callers.py` has the rest."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from src.web import gate
from src.web.gate import API, ENVELOPE, Gate
from src.web.room import Room


async def echo(scope, receive, send):
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


async def fail(scope, receive, send):
    raise RuntimeError("a mistake of ours")


async def confused(scope, receive, send):
    raise KeyError("nosuch")


def call(room, messages, app=echo, path="upload", method="POST", **headers):
    """Return the status and the text of an answer to messages; after them, nothing comes any more."""
    sent = []

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": API + path, "headers": fields}
    asyncio.run(Gate(app, room, max_file=100)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


def part(size, more=False):
    return {"type": "http.request", "body": bytes(size), "more_body": more}


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path, 200_000)


def test_a_request_is_handed_on(room):
    assert call(room, [part(50, more=True), part(50)]) == (200, "100 bytes")
    assert call(room, [], method="GET", path="info", app=PlainTextResponse("fine")) == (200, "fine")


def test_requests_wait_for_room(room):
    assert call(room, [part(10)], content_length="200000")[0] == 413  # more than a file
    (room.folder / "upload").write_bytes(bytes(150_000))
    room.tidy()
    assert call(room, [part(10)], content_length="10") == (200, "10 bytes")
    assert call(room, [part(10)], content_length="50001")[0] == 507
    assert call(room, [part(10)])[0] == 507  # who does not say how much may send the limit
    (room.folder / "upload").unlink()
    assert call(room, [part(10)])[0] == 200


def test_a_request_that_stops_is_given_up(room, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.05)
    assert call(room, [part(10, more=True)]) == (408, "Nothing arrived for 0.05 seconds.")


def test_more_than_stated_is_not_read(room):
    assert call(room, [part(10, more=True), part(1)], content_length="10")[0] == 413
    assert call(room, [part(ENVELOPE, more=True), part(101)])[0] == 413
    assert call(room, [part(ENVELOPE, more=True), part(100)])[0] == 200
    assert call(room, [part(10)], content_length="-1")[0] == 413


def test_mistakes_of_ours_are_not_hidden(room, caplog):
    assert call(room, [part(10)], app=confused)[0] == 400
    assert "KeyError: 'nosuch'" in caplog.text
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        call(room, [part(10)], app=fail)
    with pytest.raises(KeyError):
        call(room, [], app=confused, method="GET")
