"""Drawn splits: reproducible, stratified, independent of order, and never through the middle of a group."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from src.data.readers.splits import check_fractions, complete_splits, validation_fractions
from src.data.store.packed_store import SPLITS, Split
from src.utils.errors import ConfigError

FRACTIONS = (0.8, 0.1, 0.1)
IDS = [f"{i}.png" for i in range(500)]
LABELS = ["happy" if i % 5 else "sad" for i in range(500)]


def _draw(ids: list[str], labels: list[str], seed: int = 0, **options: object) -> dict[str, Split]:
    known = [None] * len(ids)
    return dict(zip(ids, complete_splits(ids, labels, known, FRACTIONS, seed, **options), strict=True))


def test_every_class_is_split_alike() -> None:
    splits = _draw(IDS, LABELS)
    counts = Counter(zip(LABELS, splits.values(), strict=True))
    assert [counts["happy", split] for split in SPLITS] == [320, 40, 40]
    assert [counts["sad", split] for split in SPLITS] == [80, 10, 10]


def test_the_order_does_not_matter_and_the_seed_does() -> None:
    pairs = list(zip(IDS, LABELS, strict=True))
    random.Random(0).shuffle(pairs)
    shuffled = _draw([id for id, _ in pairs], [label for _, label in pairs])
    assert shuffled == _draw(IDS, LABELS)
    assert _draw(IDS, LABELS, seed=1) != _draw(IDS, LABELS)


def test_the_draw_is_the_same_everywhere() -> None:
    assert [id for id, split in _draw(IDS[:30], LABELS[:30]).items() if split == "test"] == [
        "16.png",
        "25.png",
        "26.png",
    ]


@pytest.mark.parametrize("n", range(3, 30))
def test_three_images_suffice_for_one_in_each_split(n: int) -> None:
    assert set(_draw(IDS[:n], ["fear"] * n).values()) == set(SPLITS)


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_classes_go_to_training_first(n: int) -> None:
    assert "train" in _draw(IDS[:n], ["fear"] * n).values()


def test_stated_splits_stay_and_missing_ones_come_from_training() -> None:
    known: list[Split | None] = ["test"] * 100 + ["train"] * 400
    splits = complete_splits(IDS, LABELS, known, FRACTIONS, 0)
    assert splits[:100] == ["test"] * 100
    assert Counter(splits[100:]) == {"train": 355, "val": 45}  # of happy 36 of 320, of sad 9 of 80: a ninth
    complete: list[Split | None] = [*known[:-1], "val"]
    assert complete_splits(IDS, LABELS, complete, FRACTIONS, 0) == complete


def test_a_fraction_of_zero_leaves_a_split_empty() -> None:
    assert set(complete_splits(IDS, LABELS, [None] * 500, (0, 0, 1), 0)) == {"test"}
    assert set(complete_splits(IDS, LABELS, ["train"] * 500, validation_fractions(0.2), 0)) == {"train", "val"}


def test_groups_are_never_divided() -> None:
    rng = random.Random(0)
    subjects = [f"s{min(int(rng.expovariate(0.05)), 60)}" for _ in IDS]
    splits = _draw(IDS, LABELS, groups=subjects)
    assert len(set(zip(subjects, splits.values(), strict=True))) == len(set(subjects))
    counts = Counter(splits.values())
    assert counts["val"] == pytest.approx(50, abs=10)
    assert counts["test"] == pytest.approx(50, abs=10)
    sad = Counter(split for label, split in zip(LABELS, splits.values(), strict=True) if label == "sad")
    assert sad["val"] == pytest.approx(10, abs=5)
    assert sad["test"] == pytest.approx(10, abs=5)


def test_three_groups_fill_three_splits_and_two_are_too_few() -> None:
    subjects = [f"s{i % 3}" for i in range(500)]
    assert set(_draw(IDS, LABELS, groups=subjects).values()) == set(SPLITS)
    with pytest.raises(ConfigError, match=r"2 subject.*train, val, test"):
        _draw(IDS, LABELS, groups=[f"s{i % 2}" for i in range(500)])


def test_fractions_that_do_not_sum_to_1_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.split_shares=.*sum to 1"):
        check_fractions("data.split_shares", (0.8, 0.1, 0.2))
