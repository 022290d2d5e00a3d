"""Tests of the names of expressions."""

from __future__ import annotations

import pytest

from src.data.vocabulary import CANONICAL, SYNONYMS, canonical_name, canonical_order, index_map
from src.utils.errors import ConfigError


def test_canonical_order_is_the_contract() -> None:
    assert CANONICAL == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("Neutral", "neutral"),
        ("NE", "neutral"),
        ("happiness", "happy"),
        (" Joy ", "happy"),
        ("Sadness", "sad"),
        ("surprised", "surprise"),
        ("fearful", "fear"),
        ("Afraid", "fear"),
        ("disgusted", "disgust"),
        ("Anger", "angry"),
        ("Contempt", "contempt"),
    ],
)
def test_synonyms(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


def test_no_synonym_has_two_meanings() -> None:
    aliases = [alias for name, others in SYNONYMS.items() for alias in (name, *others)]
    assert len(aliases) == len(set(aliases))
    assert tuple(SYNONYMS) == CANONICAL


@pytest.mark.parametrize("name", ["", "0", "bored"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a known expression; expected one of neutral, happy"):
        canonical_name(name)


def test_order_is_canonical_whatever_the_source_says() -> None:
    assert canonical_order(["Anger", "sad", "anger", "NEUTRAL"]) == ("neutral", "sad", "angry")


def test_index_map_goes_by_name() -> None:
    source, target = ("happy", "contempt", "angry"), ("neutral", "angry", "happy")
    assert index_map(source, target).tolist() == [2, -1, 1]
