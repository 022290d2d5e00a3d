"""Kinds and ranges of configuration values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Len, MultipleOf
from omegaconf import OmegaConf
from pydantic import Strict, StrictInt, StrictStr, TypeAdapter, ValidationError

from src.utils.errors import ConfigError

Positive = Annotated[StrictInt, Gt(0)]
Natural = Annotated[StrictInt, Ge(0)]
Number = Annotated[float, Strict()]
Fraction = Annotated[Number, Interval(ge=0, le=1)]
PositiveNumber = Annotated[Number, Gt(0)]
Limit = Natural | Fraction
Names = Annotated[list[StrictStr], Len(1)]
# In pixels, of every data set and network.
ImageSize = Annotated[Positive, MultipleOf(64)]
# Lightning's, and what the machine does fastest.
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")

# By key: what messages call its values, and their kind.
Rules = Mapping[str, tuple[str, Any]]
# By key: its values.
Choices = Mapping[str, tuple[str | None, ...]]


def check_values(config: Mapping[str, Any], rules: Rules, choices: Choices) -> None:
    """Check the values of the keys that a configuration has.

    Args:
        config: The configuration, of OmegaConf or plain.
        rules: Kinds and ranges.
        choices: Lists of what is allowed.

    Raises:
        ConfigError: At the first value of a wrong kind or outside its range.
    """
    for key, (expected, kind) in rules.items():
        value = select(config, key)
        if value is ABSENT:
            continue
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        check_value(key, value, expected, kind)
    for key, allowed in choices.items():
        value = select(config, key)
        if value is not ABSENT and value not in allowed:
            shown = ", ".join("null" if choice is None else choice for choice in allowed)
            raise ConfigError(f"{key}={value}; expected one of {shown}. Set {key}=... accordingly.")


def check_value(key: str, value: Any, expected: str, kind: Any) -> None:
    """Check one value; the rest is an entry of `Rules`.

    Raises:
        ConfigError: If it is of a wrong kind or outside its range.
    """
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        raise ConfigError(f"{key}={value}; expected {expected}. Set {key}=... accordingly.") from None


ABSENT = object()


def select(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key, `ABSENT` if there is none."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value
