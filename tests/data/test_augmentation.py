"""Tests of the training loader: what happens to an image is a function of (seed, epoch, image) alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.data.transforms import TransformConfig
from src.engine.build import build_data, plain
from tests.helpers.running import TINY_DATA, compose_config

Served = dict[tuple[int, int], tuple[bytes, bytes]]


def serve(data_dir: Path, *overrides: str, seed: int = 0, epochs: int = 2, process: tuple[int, int] = (0, 1)) -> Served:
    """Return the augmented image and landmarks of each (row, epoch) that a process sees."""
    options = [f"data_dir={data_dir}", f"seed={seed}", "transform=student_baseline", *TINY_DATA, *overrides]
    cfg = compose_config("train", "run_dir=unused", *options)
    data: Any = build_data(cfg, transform=plain(cfg.transform), image_size=64)
    data._process = lambda: process
    data.setup()
    loader = data.train_dataloader()
    served: Served = {}
    for epoch in range(epochs):
        loader.batch_sampler.sampler.set_epoch(epoch)
        for batch in loader:
            for row, image, points in zip(batch["row"], batch["image"], batch["landmarks"], strict=True):
                assert (int(row), epoch) not in served
                served[int(row), epoch] = (image.numpy().tobytes(), points.numpy().tobytes())
    return served


@pytest.fixture(scope="module")
def expected(data_dir: Path) -> Served:
    """What seed 0 serves to one process without workers."""
    return serve(data_dir)


def test_epochs_differ(expected: Served) -> None:
    same = [expected[row, 0] == expected[row, 1] for row, epoch in expected if epoch == 0]
    assert len(same) == 26
    assert not any(same)


def test_images_differ(data_dir: Path) -> None:
    """Flips alone: some images are flipped and some are not, in each direction."""
    colors = [f"transform.{name}=0" for name in ("brightness", "contrast", "saturation", "hue")]
    plain_ones = serve(data_dir, "transform=none", epochs=1)
    flipped = serve(data_dir, *colors, epochs=1)
    same = [flipped[key] == plain_ones[key] for key in plain_ones]
    assert 0 < sum(same) < len(same)


def test_the_number_of_workers_does_not_matter(data_dir: Path, expected: Served) -> None:
    assert serve(data_dir, "data.num_workers=2") == expected


def test_batch_sizes_do_not_matter(data_dir: Path, expected: Served) -> None:
    assert serve(data_dir, "data.batch_size=13") == expected


def test_processes_share_the_images_out(data_dir: Path, expected: Served) -> None:
    first, second = (serve(data_dir, process=(rank, 2)) for rank in (0, 1))
    assert not first.keys() & second.keys()
    assert first | second == expected


def test_the_same_seed_repeats_and_seed_zero_is_a_seed(data_dir: Path, expected: Served) -> None:
    assert serve(data_dir, seed=0) == expected
    other = serve(data_dir, seed=1)
    assert other == serve(data_dir, seed=1)
    assert other.keys() == expected.keys()
    assert all(other[key] != expected[key] for key in expected)


def test_student_baseline_is_the_student_projects() -> None:
    cfg = compose_config("train", "run_dir=unused", "transform=student_baseline")
    keys = OmegaConf.to_container(cfg.transform)
    config = TransformConfig.from_keys(keys)  # type: ignore[arg-type]  # a dictionary
    assert config.horizontal_flip == config.vertical_flip == 0.5
    assert min(config.brightness, config.contrast, config.saturation, config.hue) > 0
    assert config.rotate == config.scale == config.translate == config.erase == config.mixup == config.cutmix == 0
