"""The operators of an ONNX file, without the package that reads them whole: Protocol Buffers, field by field."""

from __future__ import annotations

from collections.abc import Iterator

# Numbers of the fields in onnx.proto3 that lead from a model to its operators' names: the nodes of its graph, and of
# functions. Graphs within graphs need no look: only what is in LOOPS has them.
NODES = {7: 1, 25: 7}
OPERATOR = 4
LOOPS = frozenset(("Loop", "Scan", "If", "SequenceMap"))


def operators(content: bytes) -> Iterator[str]:
    """Yield the names of a model's operators.

    Raises:
        ValueError: If the content is no message of Protocol Buffers.
    """
    for field, graph in _messages(memoryview(content)):
        if field in NODES:
            for part, node in _messages(graph):
                if part == NODES[field]:
                    yield from (str(name, "utf-8", "replace") for key, name in _messages(node) if key == OPERATOR)


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields that are messages, text or bytes, with their numbers."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind, size = key & 7, 0
        if kind == 0:
            _, at = _number(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _number(data, at)
            if at + size > len(data):
                raise ValueError("it breaks off")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")


def _number(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("it breaks off")
