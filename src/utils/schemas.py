"""What files that may be anyone's have to hold: a kind a file, checked before anything of it is used."""

from __future__ import annotations

import reprlib
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from src.utils.errors import ConfigError

T = TypeVar("T")


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


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
