"""Tests of landmark files: points by image id, in the image's pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.data.readers.landmark_file import LandmarkFile
from src.data.store.packed_store import Record, Skipped
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, encoded, write

# Of three images; the second one's are implausible, the third has none.
POINTS = np.random.default_rng(0).uniform(-0.2, 1.2, (3, 68, 2)).astype(np.float32)
POINTS[2] = np.nan
IDS = np.array(["train/happy/a.png", "train/sad/b.png", "test/sad/c.png"])
PLAUSIBLE = np.array([True, False, False])


def npz(folder: Path, **changed: np.ndarray) -> Path:
    np.savez(folder / "points.npz", **{"ids": IDS, "points": POINTS, "plausible": PLAUSIBLE, **changed})
    return folder / "points.npz"


def csv(folder: Path) -> Path:
    lines = ["id," + ",".join(f"{axis}{i}" for i in range(68) for axis in "xy")]
    for name, points in zip(IDS, POINTS, strict=True):
        lines.append(f"{name}," + ",".join("" if np.isnan(v) else f"{v:.6f}" for v in points.ravel()))
    (folder / "points.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "points.csv"


@pytest.mark.parametrize(("made", "known"), [(npz, 1), (csv, 2)])
def test_both_formats_hold_the_same(tmp_path: Path, made: Callable[[Path], Path], known: int) -> None:
    file = LandmarkFile(str(made(tmp_path)))
    assert sorted(file.points) == sorted(IDS[:known])
    np.testing.assert_allclose(file.points[IDS[0]], POINTS[0], atol=1e-6)
    assert file.n_implausible == 2 - known


def test_row_numbers_are_ids(tmp_path: Path) -> None:
    file = LandmarkFile(str(npz(tmp_path, ids=np.arange(3))))
    assert list(file.points) == ["0"]


def test_fractions_become_pixels_of_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An image's left edge is half a pixel before the center of the first one; width and height count apart."""
    points = np.zeros((1, 68, 2), np.float32)
    points[0, 1], points[0, 2] = (1, 1), (0.5, 0.25)
    file = LandmarkFile(str(npz(tmp_path, ids=np.array(["a"]), points=points, plausible=np.array([True]))))
    image = np.zeros((40, 20, 3), np.uint8)
    entries = [Record("a", "train", "sad", image), Skipped("b", "torn"), Record("c", "val", "sad", image)]
    with caplog.at_level(logging.INFO):
        first, skipped, other = file.added_to(entries)
    assert isinstance(first, Record) and isinstance(other, Record)
    assert first.landmarks is not None and other.landmarks is None and isinstance(skipped, Skipped)
    np.testing.assert_allclose(first.landmarks[:3], [[-0.5, -0.5], [19.5, 39.5], [9.5, 9.5]])
    assert "1 of 2 images" in caplog.text


def test_a_data_set_has_the_points_of_its_file(tmp_path: Path) -> None:
    for name in IDS:
        write(tmp_path / "faces" / name, encoded(np.full((48, 48), len(name), np.uint8)))
    write(tmp_path / "faces" / "val" / "sad" / "d.png", encoded(np.zeros((48, 48), np.uint8)))
    plain = build("folder", tmp_path / "faces", tmp_path / "cache")
    data = build("folder", tmp_path / "faces", tmp_path / "cache", landmarks_path=str(npz(tmp_path)))
    assert plain.store.landmarks is None and not plain.has_landmarks
    assert data.has_landmarks and data.fingerprint != plain.fingerprint
    row = list(data.store.ids).index(IDS[0])
    np.testing.assert_allclose(data.store.landmarks[row], POINTS[0] * 48 - 0.5, atol=1e-4)
    batch = data.plain_images(np.array([row]))
    np.testing.assert_allclose(batch["landmarks"][0], POINTS[0] * 64 - 0.5, atol=1e-4)
    # Other points are other data.
    npz(tmp_path, points=np.where(np.isnan(POINTS), POINTS, POINTS / 2))
    again = build("folder", tmp_path / "faces", tmp_path / "cache", landmarks_path=str(tmp_path / "points.npz"))
    assert again.fingerprint != data.fingerprint


FAR = np.where(np.isnan(POINTS), POINTS, POINTS * 48)
BROKEN = {
    "pixels": ({"points": FAR}, "images away; pixels"),
    "infinite": ({"points": np.where(np.isnan(POINTS), np.inf, POINTS)}, "infinite"),
    "shape": ({"points": POINTS[:, :5]}, r"\(3, 5, 2\)"),
    "ids": ({"ids": IDS[:2]}, r"\(2,\)"),
    "twice": ({"ids": IDS[[0, 0, 1]]}, "train/happy/a.png is there 2 times"),
    "objects": ({"ids": np.array([{}, 1, 2], dtype=object)}, "cannot be an array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    changed, message = BROKEN[name]
    with pytest.raises(ConfigError, match=rf"data\.landmarks_path=.*{message}.*expected an \.npz"):
        LandmarkFile(str(npz(tmp_path, **changed)))


@pytest.mark.parametrize(
    ("text", "message"),
    [("id,x0,y0\na,1,2", "no column x1"), (None, "is no file"), ("id," + ",".join("ab"), "no column x0")],
)
def test_broken_tables_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        LandmarkFile(str(tmp_path / "points.csv"))


def test_a_cut_archive_is_named(tmp_path: Path) -> None:
    whole = npz(tmp_path).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"cut\.npz"):
            LandmarkFile(str(tmp_path / "cut.npz"))


def test_points_of_no_image_are_named(tmp_path: Path) -> None:
    file = LandmarkFile(str(npz(tmp_path)))
    with pytest.raises(ConfigError, match=r"such as 'train/happy/a\.png', those of the images such as '7'"):
        list(file.added_to([Record("7", "train", "sad", np.zeros((4, 4), np.uint8))]))
