"""Tests of which parts of a face the attribution falls on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.faces.generator import draw_face
from src.data.transforms import MIRROR
from src.explanation.images import Images, face_points
from src.explanation.regions import ALL, REGIONS, draw_regions, region_fractions, region_map, summarize_regions

FACE = draw_face(0, 3, 64)
POINTS = torch.from_numpy(FACE.landmarks.astype(np.float32))
FACES = torch.zeros(3, 3, 64, 64)


def spot(x: float, y: float) -> torch.Tensor:
    maps = torch.zeros(64, 64)
    maps[round(y), round(x)] = 0.7
    return maps


# A place of each region, by the points around it.
PLACES = {
    "eyes": POINTS[36:42].mean(0),
    "brows": POINTS[19],
    "mouth": POINTS[48:60].mean(0),
    "nose": POINTS[30],
    "rest of the face": (POINTS[3] + POINTS[33]) / 2,
    "around the face": torch.tensor([1.0, 1.0]),
}


@pytest.mark.parametrize("region", REGIONS)
def test_attribution_is_counted_where_it_is(region: str) -> None:
    fractions, areas = region_fractions(spot(*PLACES[region].tolist())[None], POINTS[None])
    assert fractions[0].tolist() == [float(name == region) for name in REGIONS]
    assert float(areas.sum()) == pytest.approx(1)


def test_attribution_everywhere_is_that_of_the_area() -> None:
    fractions, areas = region_fractions(torch.ones(1, 64, 64), POINTS[None])
    torch.testing.assert_close(fractions, areas)


def test_regions_follow_the_face() -> None:
    """Mirrored points give mirrored regions, as both eyes and brows are one region each."""
    regions = region_map(POINTS.numpy(), 64)
    mirrored = (POINTS.numpy() * [-1, 1] + [63, 0])[MIRROR].astype(np.float32)
    other = region_map(mirrored, 64)[:, ::-1]
    assert (regions == other).mean() > 0.97


def test_images_without_landmarks_or_attribution_do_not_count() -> None:
    maps = torch.stack([spot(*PLACES["mouth"].tolist()), torch.zeros(64, 64), torch.ones(64, 64)])
    points = POINTS.repeat(3, 1, 1)
    points[2, 5] = torch.nan
    fractions, areas = region_fractions(maps, points)
    assert fractions[1:].isnan().all() and areas[1:].isnan().all()
    table = summarize_regions(fractions, areas, torch.tensor([1, 0, 0]), ("sad", "happy"))
    assert list(table) == ["happy", ALL]
    assert table["happy"]["mouth"]["mean"] == 1 and table["happy"]["mouth"]["n"] == 1


def test_means_are_those_of_each_class(tmp_path: Path) -> None:
    maps = torch.stack([spot(*PLACES[name].tolist()) for name in ("mouth", "eyes", "eyes", "nose")])
    fractions, areas = region_fractions(maps, POINTS.repeat(4, 1, 1))
    table = summarize_regions(fractions, areas, torch.tensor([0, 0, 1, 1]), ("happy", "sad"))
    assert table["happy"]["mouth"]["mean"] == table["happy"]["eyes"]["mean"] == 0.5
    assert table[ALL]["eyes"]["mean"] == 0.5 and table[ALL]["nose"]["mean"] == 0.25
    low, high = table[ALL]["eyes"]["ci95"]
    assert low < 0.5 < high
    with Image.open(draw_regions(tmp_path / "figures" / "regions.png", "Where it falls", table)) as image:
        assert min(image.size) > 200


def test_landmarks_are_those_of_the_data_then_those_of_the_model() -> None:
    found, known = POINTS.repeat(3, 1, 1), (POINTS + 1).repeat(3, 1, 1)
    known[1] = torch.nan
    images = Images(("sad",), torch.tensor([4, 0, 2]), torch.zeros(3), torch.ones(3, 1), ["e", "a", "c"], FACES, found)
    rows = []

    def plain_images(chosen: np.ndarray) -> dict[str, torch.Tensor]:
        rows.append(chosen.tolist())
        return served

    data: Any = SimpleNamespace(split_rows=lambda split: (np.arange(10, 16), None, 0), plain_images=plain_images)
    served: dict[str, torch.Tensor] = {"landmarks": known}
    mixed = face_points(data, "val", images)
    assert rows == [[14, 10, 12]]
    assert mixed is not None
    torch.testing.assert_close(mixed, torch.stack([known[0], found[1], known[2]]))
    torch.testing.assert_close(face_points(data, "val", replace(images, landmarks=None)), known, equal_nan=True)
    served = {}
    assert face_points(data, "val", images) is found
    assert face_points(data, "val", replace(images, landmarks=None)) is None
