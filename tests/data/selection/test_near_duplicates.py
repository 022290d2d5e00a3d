"""Tests of the search for near duplicates: no pair is missed, none is made up, no size is too much."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.data.faces.generator import draw_face
from src.data.selection.near_duplicates import (
    MAX_DISTANCE,
    MIN_CORRELATION,
    agreements,
    close_pairs,
    find_matches,
    find_near_duplicates,
    fingerprints,
    perceptual_hashes,
)
from src.data.store.packed_store import PackedStore, Record
from src.data.store.store_writer import write_store

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def faces() -> list[Image]:
    """Gray faces of different people, 48 pixels."""
    return [draw_face(21, index, 48, grayscale=True).image[..., 0] for index in range(120)]


def _store(path: Path, images: list[Image]) -> PackedStore:
    return write_store(path, [Record(str(i), "train", "happy", image) for i, image in enumerate(images)], 0.0)


def _near_rows(path: Path, images: list[Image]) -> set[tuple[int, int]]:
    pairs = find_near_duplicates(fingerprints(_store(path, images))).pairs
    return {(left, right) for left, right in pairs.tolist()}


def _jpeg(image: Image, quality: int) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def _brighter(image: Image, shift: int) -> Image:
    """Leave out what would be cut off at white."""
    return np.minimum(image, 255 - shift) + np.uint8(shift)


def _flipped(hashes: NDArray[np.uint64], rng: np.random.Generator, most: int) -> NDArray[np.uint64]:
    """Change up to `most` random bits of each hash."""
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1)
    for row in bits:
        row[rng.permutation(64)[: rng.integers(0, most + 1)]] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _all_close(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> set[tuple[int, int]]:
    i, j = np.nonzero(np.bitwise_count(left[:, None] ^ right[None]) <= MAX_DISTANCE)
    return set(zip(i.tolist(), j.tolist(), strict=True))


def _listed(hashes: NDArray[np.uint64], other: NDArray[np.uint64] | None = None) -> list[tuple[int, int]]:
    return [pair for i, j in close_pairs(hashes, other) for pair in zip(i.tolist(), j.tolist(), strict=True)]


def test_bands_cover_all_bits_once() -> None:
    bands = agreements(0)
    assert sum(int(band) for band in bands) == 2**64 - 1
    assert np.bitwise_or.reduce(bands) == np.uint64(2**64 - 1)


def test_many_hashes_are_compared_in_small_buckets() -> None:
    few, many, most = (agreements(n) for n in (20_000, 250_000, 250_001))
    assert [len(masks) for masks in (few, many, most)] == [9, 45, 165]
    assert [min(int(mask).bit_count() for mask in masks) for masks in (few, many, most)] == [7, 12, 16]


@pytest.mark.parametrize("more_bands", [(1000, 1000), (500, 1000), (500, 500)])
def test_close_pairs_are_those_of_brute_force(more_bands: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.selection.near_duplicates.PAIRS_AT_ONCE", 64)
    monkeypatch.setattr("src.data.selection.near_duplicates.MORE_BANDS", more_bands)
    rng = np.random.default_rng(sum(more_bands))
    centers = rng.integers(0, 2**64, 60, dtype=np.uint64)
    hashes = _flipped(rng.choice(centers, 700), rng, most=9)
    listed = _listed(hashes)
    assert len(set(listed)) == len(listed) > 1000
    assert set(listed) == {(i, j) for i, j in _all_close(hashes, hashes) if i < j}
    other = _flipped(rng.choice(centers, 300), rng, most=9)
    crossed = _listed(hashes, other)
    assert len(set(crossed)) == len(crossed)
    assert set(crossed) == _all_close(hashes, other)


def test_eight_bits_in_eight_bands_are_close_and_nine_are_not() -> None:
    lowest = [band & (~band + np.uint64(1)) for band in agreements(0)]
    spread = np.bitwise_or.reduce(lowest)
    hashes = np.array([0, *(spread ^ bit for bit in lowest), spread], dtype=np.uint64)
    assert {pair for pair in _listed(hashes) if pair[0] == 0} == {(0, i) for i in range(1, 10)}


def test_no_hashes() -> None:
    nothing = np.empty(0, np.uint64)
    assert _listed(nothing) == _listed(nothing, np.zeros(3, np.uint64)) == []


def test_hash_ignores_brightness_and_contrast(faces: list[Image]) -> None:
    dark = [face // 4 * 2 for face in faces]
    shifted = [image + np.uint8(90) for image in dark]
    assert np.array_equal(*(perceptual_hashes(np.stack(images).reshape(-1, 48 * 48)) for images in (dark, shifted)))


def test_different_faces_are_no_near_duplicates(tmp_path: Path, faces: list[Image]) -> None:
    assert _near_rows(tmp_path / "store", faces) == set()


@pytest.mark.parametrize("change", ["brightness", "contrast", "jpeg", "noise", "size", "color"])
def test_changed_images_are_near_duplicates(tmp_path: Path, faces: list[Image], change: str) -> None:
    rng = np.random.default_rng(0)
    changes = {
        "brightness": lambda face: _brighter(face, 12),
        "contrast": lambda face: (face * 0.7).astype(np.uint8),
        "jpeg": lambda face: _jpeg(face, 90),
        "noise": lambda face: np.clip(face + rng.normal(0, 2, face.shape), 0, 255).astype(np.uint8),
        "size": lambda face: cv2.resize(face, (96, 96), interpolation=cv2.INTER_CUBIC),
        "color": lambda face: np.repeat(face[..., None], 3, axis=2),
    }
    n = len(faces)
    found = _near_rows(tmp_path / "store", [*faces, *map(changes[change], faces)])
    assert found <= {(i, n + i) for i in range(n)}
    assert len(found) >= 0.97 * n


def test_pairs_are_those_of_brute_force(tmp_path: Path, faces: list[Image]) -> None:
    rng = np.random.default_rng(1)
    strengths = rng.uniform(0, 30, len(faces))
    noisy = [
        np.clip(face + rng.normal(0, sigma, face.shape), 0, 255).astype(np.uint8)
        for face, sigma in zip(faces, strengths, strict=True)
    ]
    images = np.stack([*faces, *noisy])
    result = find_near_duplicates(fingerprints(_store(tmp_path / "store", list(images))))
    pixels = images.reshape(len(images), -1)
    correlation = np.corrcoef(pixels)
    hashes = perceptual_hashes(pixels)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = np.argwhere(np.triu((correlation >= MIN_CORRELATION) & (distance <= MAX_DISTANCE), 1))
    assert 20 < len(expected) < len(faces)
    assert np.array_equal(result.pairs, expected)
    assert np.allclose(result.correlation, correlation[tuple(expected.T)], atol=1e-5)
    assert np.array_equal(result.distance, distance[tuple(expected.T)])


def test_pixels_that_are_too_many_for_the_memory(
    tmp_path: Path, faces: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path / "store", [*faces, *(_brighter(face, 12) for face in faces)])
    expected = find_near_duplicates(fingerprints(store))
    monkeypatch.setattr("src.data.selection.near_duplicates.IN_MEMORY", 1000)
    prints = fingerprints(store)
    assert isinstance(prints.pixels, np.memmap)
    found = find_near_duplicates(prints)
    assert len(found.pairs) > 0
    assert np.array_equal(found.pairs, expected.pairs)
    assert np.array_equal(found.correlation, expected.correlation)


def test_frames_of_one_clip_are_not_held_against_each_other(tmp_path: Path, faces: list[Image]) -> None:
    images = [faces[0], faces[0] // 2, faces[1], faces[1] // 2]
    prints = fingerprints(_store(tmp_path / "store", images))
    assert find_near_duplicates(prints).pairs.tolist() == [[0, 1], [2, 3]]
    assert find_near_duplicates(prints, np.array([0, 0, 1, 2])).pairs.tolist() == [[2, 3]]


def test_exact_duplicates_are_no_near_duplicates(tmp_path: Path, faces: list[Image]) -> None:
    copy = _brighter(faces[0], 9)
    assert _near_rows(tmp_path / "store", [faces[1], faces[0], faces[0], copy, faces[0], copy]) == {(1, 3)}


def test_thousands_of_constant_images_and_duplicates_are_no_trouble(tmp_path: Path, faces: list[Image]) -> None:
    blanks = [np.full((48, 48), value % 256, np.uint8) for value in range(3000)]
    store = _store(tmp_path / "store", [*blanks, *([faces[0]] * 3000), _brighter(faces[0], 5)])
    start = time.process_time()
    assert find_near_duplicates(fingerprints(store)).pairs.tolist() == [[3000, 6000]]
    assert time.process_time() - start < 5


def test_matches_between_stores(tmp_path: Path, faces: list[Image]) -> None:
    blank = np.full((48, 48), 7, np.uint8)
    ours = _store(tmp_path / "ours", [faces[0], _jpeg(faces[1], 80), faces[2], faces[0], blank, faces[3], blank + 1])
    other = _store(tmp_path / "other", [faces[1], faces[0], faces[9], blank, faces[1], blank + 2])
    matches = find_matches(fingerprints(ours), fingerprints(other))
    assert np.flatnonzero(matches.exact).tolist() == [0, 3, 4]
    assert np.flatnonzero(matches.near).tolist() == [1]
    assert np.flatnonzero(matches.found).tolist() == [0, 1, 3, 4]


def test_an_exact_match_is_not_counted_as_near(tmp_path: Path, faces: list[Image]) -> None:
    ours = _store(tmp_path / "ours", [faces[0]])
    other = _store(tmp_path / "other", [_brighter(faces[0], 6), faces[0]])
    matches = find_matches(fingerprints(ours), fingerprints(other))
    assert matches.exact.tolist() == [True]
    assert matches.near.tolist() == [False]
    assert matches.found.tolist() == [True, True]
