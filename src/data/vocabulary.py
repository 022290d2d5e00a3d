"""Names of facial expressions: one canonical list, one table of synonyms, mappings by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.utils.errors import ConfigError

# The order of EmoNet's eight outputs (and of AffectNet's labels); every list of classes here keeps it.
CANONICAL = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")

SYNONYMS = {
    "neutral": ("neutrality", "ne"),
    "happy": ("happiness", "joy", "ha"),
    "sad": ("sadness", "sa"),
    "surprise": ("surprised", "su"),
    "fear": ("fearful", "afraid", "fe"),
    "disgust": ("disgusted", "di"),
    "angry": ("anger", "an"),
    "contempt": ("contemptuous", "co"),
}
_CANONICAL_OF = {alias: name for name, aliases in SYNONYMS.items() for alias in (name, *aliases)}


def canonical_name(name: str) -> str:
    """Return the canonical name of an expression, whatever its case.

    Raises:
        ConfigError: If the name is unknown.
    """
    try:
        return _CANONICAL_OF[name.strip().lower()]
    except KeyError:
        raise ConfigError(
            f"{name!r} is not a known expression; expected one of {', '.join(CANONICAL)} or a synonym listed in "
            "src/data/vocabulary.py."
        ) from None


def canonical_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct canonical names among `names`, in canonical order."""
    present = {canonical_name(name) for name in names}
    return tuple(name for name in CANONICAL if name in present)


def index_map(source: Sequence[str], target: Sequence[str]) -> NDArray[np.int64]:
    """Return, for each class of `source`, its index in `target`, or -1 where `target` lacks it."""
    return np.array([target.index(name) if name in target else -1 for name in source], dtype=np.int64)
