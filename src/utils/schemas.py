"""What files that may be anyone's have to hold: a kind a file, checked before anything of it is used."""

from __future__ import annotations

import json
import logging
import reprlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")
# Of a file that is read at once; the lists of a data set's unreadable images are the largest.
MAX_BYTES = 2**26


def checked(kind: type[T], content: Any, source: object, remedy: str) -> T:
    """Return content as a kind of value.

    Args:
        kind: What pydantic understands: a dataclass, a `TypedDict`, a type.
        content: What a file holds.
        source: What it is, for the message.
        remedy: What to do about content of another kind.

    Raises:
        ConfigError: If it is not of the kind.
    """
    try:
        return cast(T, _adapter(cast(Any, kind)).validate_python(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        found = "" if first["type"] == "missing" else f"={reprlib.repr(first['input'])}"
        raise ConfigError(f"{source} is broken: {place}{found}: {first['msg']}. {remedy}") from None
    except RecursionError:
        raise ConfigError(f"{source} is broken: it is nested too deeply. {remedy}") from None


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the content of a file in UTF-8.

    Raises:
        OSError: If it cannot be read, or is a pipe, a device or a folder.
        ValueError: If it is larger, or no text.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes:,} bytes")
    return content.decode("utf-8")


def require_json(path: Path, kind: type[T], remedy: str) -> T:
    """Return the content of a JSON file, an empty mapping if it is absent.

    Args:
        path: The file.
        kind: See `checked`.
        remedy: What to do about a broken file.

    Raises:
        ConfigError: If it is broken, or of another kind.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        content = {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is broken: {error or type(error).__name__}. {remedy}") from None
    return checked(kind, content, path, remedy)


def read_json(path: Path, kind: type[T] = dict[str, Any]) -> T:  # type: ignore[assignment]
    """Return the content of a JSON file that can be done without; a broken one is told of, and counts as absent."""
    try:
        return require_json(path, kind, "It counts as absent.")
    except ConfigError as error:
        log.warning("%s", error)
        return checked(kind, {}, path, "")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
