"""Tests of the order of the training images."""

from __future__ import annotations

import numpy as np
import pytest

from src.data.sampling import EpochSampler, balanced_weights


def order(sampler: EpochSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return [index for index, _ in sampler]


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 51.0)])
def test_order_is_a_function_of_seed_and_epoch(weights: np.ndarray | None) -> None:
    orders = {(s, e): order(EpochSampler(50, s, weights), e) for s in (0, 1) for e in (0, 1)}
    np.random.seed(5)
    for (seed, epoch), expected in orders.items():
        again = EpochSampler(50, seed, weights, first_epoch=7)
        list(again)  # an iteration before changes nothing
        assert order(again, epoch) == expected
    assert len({tuple(indices) for indices in orders.values()}) == 4


def test_every_image_once_an_epoch() -> None:
    assert sorted(order(EpochSampler(50, 0))) == list(range(50))


def test_epoch_comes_with_each_index() -> None:
    sampler = EpochSampler(5, 0, first_epoch=3)
    assert {epoch for _, epoch in sampler} == {3}
    sampler.set_epoch(4)
    assert {epoch for _, epoch in sampler} == {4}


def test_a_running_iterator_keeps_its_epoch() -> None:
    sampler = EpochSampler(5, 0)
    iterator = iter(sampler)
    first = next(iterator)
    sampler.set_epoch(9)
    assert [first, *iterator] == list(EpochSampler(5, 0))


@pytest.mark.parametrize("n", [12, 13, 14])
def test_ranks_share_the_epoch_of_one_process(n: int) -> None:
    alone = order(EpochSampler(n, 0), 2)
    parts = [order(EpochSampler(n, 0, rank=rank, world_size=3), 2) for rank in range(3)]
    assert {len(part) for part in parts} == {n // 3} == {len(EpochSampler(n, 0, rank=1, world_size=3))}
    interleaved = [index for step in zip(*parts, strict=True) for index in step]
    assert interleaved == alone[: n // 3 * 3]


def test_balanced_weights_draw_every_class_equally() -> None:
    labels = np.repeat([0, 2, 3], [9000, 900, 100])  # class 1 has no images
    drawn = labels[order(EpochSampler(len(labels), 0, balanced_weights(labels)))]
    fractions = np.bincount(drawn, minlength=4) / len(labels)
    assert fractions == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.02)


def test_balanced_draws_differ_within_a_class() -> None:
    labels = np.repeat([0, 1], [900, 100])
    drawn = order(EpochSampler(1000, 0, balanced_weights(labels)))
    assert len({index for index in drawn if index >= 900}) > 90


def test_images_without_a_label_are_drawn_as_often_as_a_class() -> None:
    weights = balanced_weights(np.array([-1, -1, 1, 1, 1, 1]))
    assert weights[:2].sum() == weights[2:].sum()
