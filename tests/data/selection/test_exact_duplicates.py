"""Tests of the rules for exact duplicates on a store made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from src.data.selection.exact_duplicates import clean_rows, conflicting_groups, training_rows
from src.data.store.packed_store import PackedStore, Record
from tests.conftest import MakeStore

# Row, split, image, label. Images of the same letter are byte-identical.
ROWS = [
    (0, "train", "A", "happy"),
    (1, "train", "B", "sad"),
    (2, "train", "A", "angry"),  # a later duplicate with another label
    (3, "train", "C", "happy"),  # also a validation image
    (4, "train", "D", "happy"),  # also a test image
    (5, "train", "E", "fear"),
    (6, "val", "C", "happy"),
    (7, "val", "F", "sad"),
    (8, "val", "F", "sad"),
    (9, "test", "D", "neutral"),  # duplicate in training, with another label
    (10, "test", "G", "sad"),
    (11, "test", "G", "sad"),  # second of its group
    (12, "test", "F", "sad"),  # duplicate in validation
    (13, "test", "H", "fear"),
    (14, "train", "E", "fear"),
]


@pytest.fixture
def store(make_store: MakeStore) -> PackedStore:
    pixels = {letter: np.full((2, 2), ord(letter), np.uint8) for _, _, letter, _ in ROWS}
    return make_store([Record(str(row), split, label, pixels[letter]) for row, split, letter, label in ROWS])


def test_training_keeps_first_duplicates_unknown_to_the_other_splits(store: PackedStore) -> None:
    assert training_rows(store).tolist() == [0, 1, 5]


def test_clean_test_images_are_new_and_one_per_group(store: PackedStore) -> None:
    assert clean_rows(store, "test").tolist() == [10, 13]


def test_conflicting_groups_are_listed_across_splits(store: PackedStore) -> None:
    groups = sorted(rows.tolist() for rows in conflicting_groups(store))
    assert groups == [[0, 2], [4, 9]]


def test_nothing_is_left_out_without_duplicates(make_store: MakeStore) -> None:
    splits = ["train", "test", "val", "train", "test"]
    store = make_store([Record(str(i), s, "sad", np.full((2, 2), i, np.uint8)) for i, s in enumerate(splits)])
    assert training_rows(store).tolist() == [0, 3]
    assert clean_rows(store, "test").tolist() == [1, 4]
    assert conflicting_groups(store) == []
