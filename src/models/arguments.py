"""Arguments of heads and networks as descriptions hold them: words, numbers, switches, null, and lists of these."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, get_args

from annotated_types import Interval, MultipleOf
from pydantic import AllowInfNan, StrictInt

from src.utils.errors import ConfigError
from src.utils.validation import ImageSize, Positive, PositiveNumber, Rules

Tap = Literal["fused", "emotion2", "emotion", "pooled"]
TAPS: tuple[Tap, ...] = get_args(Tap)
Freeze = Literal["all", "fused", "fan", "none"]
FREEZE_LEVELS: tuple[Freeze, ...] = get_args(Freeze)
Width = Annotated[Positive, MultipleOf(16)]
Blocks = Annotated[StrictInt, Interval(ge=2, le=4)]
Scale = Annotated[PositiveNumber, AllowInfNan(False)]
# EmoNet's own, by key of the configuration.
RULES: Rules = {
    "backbone.width": ("a multiple of 16, 16 or more", Width),
    "backbone.n_hourglass": ("a whole number of 1 or more", Positive),
    "backbone.n_blocks": ("2, 3 or 4 (each block halves the map)", Blocks),
    "backbone.image_size": ("a multiple of 64", ImageSize),
    "backbone.mask_limit": ("a number above 0, or null for no limit", Scale | None),
}

# Numbers are sizes or factors; a layer of larger ones would not fit into memory.
MAX_NUMBER = 2**12
# What of a head's or a network's description has one kind, whatever class it is for.
KINDS: dict[str, type] = {"name": str, "tap": str, "architecture": str, "valence_arousal": bool}


def plain_arguments(group: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that survive every file of weights, and can name no code.

    Args:
        group: `head` or `backbone`, for the message.
        given: Arguments by name.

    Raises:
        ConfigError: If one is of another kind.
    """
    for key, value in given.items():
        kind = KINDS.get(key)
        if not (_is_plain(value) if kind is None else isinstance(value, kind)):
            wanted = f"text, a number up to {MAX_NUMBER}, true, false, null, or a list of these"
            wanted = wanted if kind is None else f"a {kind.__name__}"
            raise ConfigError(f"{group}.{key}={value!r}; expected {wanted}, as weights can hold it.")
    return {str(key): value for key, value in given.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= MAX_NUMBER)


def check_arguments(group: str, built: type, given: Collection[str], own: Collection[str]) -> None:
    """Refuse arguments that a class does not take.

    Args:
        group: `head` or `backbone`, for the message.
        built: The class.
        given: Names of the arguments of a configuration or of weights.
        own: Those that it is not theirs to give.

    Raises:
        ConfigError: If there is one.
    """
    known = arguments_of(built) - set(own)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{group}.{key} is no argument of {built.__name__}; expected {', '.join(sorted(known))}. Leave it out, "
                "or use the code that the weights were trained with."
            )


def arguments_of(built: type) -> set[str]:
    """Return the names of a constructor's arguments, those that it passes on to its bases included."""
    return {parameter.name for parameter in _parameters(built)}


def defaults_of(built: type) -> dict[str, Any]:
    """Return the arguments that a constructor does without, and what they are then."""
    return {entry.name: entry.default for entry in _parameters(built) if entry.default is not Parameter.empty}


def _parameters(built: type) -> Iterator[Parameter]:
    for base in built.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(signature(vars(base)["__init__"]).parameters.values())[1:]
        kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        yield from (parameter for parameter in parameters if parameter.kind in kinds)
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            return
