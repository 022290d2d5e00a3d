"""Damage: what disks, downloads, other programs and strangers do to files."""

from __future__ import annotations

import json
import random
import re
import struct
from typing import Any

NUMBERS = (0, 1, -1, 127, 255, 256, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
TOKENS = (
    *(b"", b"0", b"-1", b"1e999", b"nan", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"9" * 400, b"[" * 3000),
    *(
        b"\xff\xfe",
        b"\x00",
        b"${oc.env:HOME}",
        b"*a",
        b"&a [*a]",
        b"!!python/name:os.system",
        b"../../etc/passwd",
        b"~",
    ),
    *(b"\xed\xa0\x80", b"a" * 300, b",,,,", b'"', b"\r", b"0x10", b"-0", b"2020-99-99", b"1_000", b"\xe2\x80\xae"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**70, 1e308, float("nan"), float("inf"), "", "a", "nan", [], {}, [1], {"a": 1}),
    *([[[[]]]], "x" * 500, ["a", 1], {"_target_": "os.system"}, "${oc.env:HOME}", -(2**31)),
)


def mutate(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Return damaged content.

    Args:
        content: A file.
        rng: Source of all chance.
        other: Another file of the kind, to be joined with.
    """
    if not content:
        return rng.choice(TOKENS)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        _change(data, rng, other)
    return bytes(data)


def _change(data: bytearray, rng: random.Random, other: bytes) -> None:
    size = max(1, len(data))
    # Headers are where sizes are: half of the changes are there.
    at = rng.randrange(min(size, 256) if rng.random() < 0.5 else size)
    length = min(rng.choice((1, 2, 4, 16, 200, 4000)), size)
    kind = rng.randrange(11)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 2 and data:
        data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
    elif kind == 5:
        number, form = rng.choice(NUMBERS), rng.choice(("<i", ">i", "<q", ">q", "<h", ">h"))
        width = struct.calcsize(form)
        data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little" if form[0] == "<" else "big")
    elif kind == 6:
        data[at : at + length] = bytes(length)
    elif kind == 7:
        start = rng.randrange(len(other) or 1)
        data[at:] = other[start:]
    elif kind == 8:
        data[at : at + rng.choice((0, 1, length))] = rng.choice(TOKENS)
    else:
        _change_token(data, rng)


def _change_token(data: bytearray, rng: random.Random) -> None:
    """Replace a word or a number of a text."""
    if len(data) > 200_000:
        return
    words = [match.span() for match in re.finditer(rb"[\w.+-]+", bytes(data))]
    if words:
        start, end = rng.choice(words)
        data[start:end] = rng.choice((*TOKENS, *(str(number).encode() for number in NUMBERS)))


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON of which a value is another one, is gone, or has another name."""
    try:
        whole = json.loads(content)
    except ValueError:
        return content
    places: list[tuple[Any, Any]] = []
    _collect(whole, places)
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    container, key = rng.choice(places)
    action = rng.randrange(5)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[rng.choice(("", "a", "_target_", "name"))] = container.pop(key)
    elif action == 2:
        return json.dumps(rng.choice(VALUES)).encode()
    else:
        container[key] = rng.choice(VALUES)
    return json.dumps(whole).encode()


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        places.append((value, key))
        _collect(value[key], places)
