"""Near duplicates: one image twice, but for brightness, contrast, compression or a little noise.

A 64-bit perceptual hash gives a shortlist (Hamming distance up to 8), of which only pairs whose pixels correlate are
kept: faces are all alike, and the hash alone is wrong about most pairs at distance 4 and beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from src.data.readers.images import fit
from src.data.store.packed_store import PackedStore

MAX_DISTANCE = 8
MIN_CORRELATION = 0.98
SIDE = 48
# Hashes that differ in at most 8 bits agree on at least one of 9 bands, wherever the differing bits are.
BANDS = [np.uint64(sum(1 << int(bit) for bit in bits)) for bits in np.array_split(np.arange(64), MAX_DISTANCE + 1)]
PAIRS_AT_ONCE = 2048  # 2 x 2048 images in float32 are 38 MB
CELLS_AT_ONCE = 1 << 18  # of a table of hash distances; 2 MB stay in a core's cache

Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows]


@dataclass(frozen=True)
class Fingerprints:
    """The U distinct images among the N of a store, as the search sees them.

    Attributes:
        rows: Row of the store, of byte-identical images the first one, (U,), ascending.
        image_of_row: For each row of the store its index in here, (N,).
        digests: Digests of the images, (U,).
        pixels: Gray values of the images at 48 x 48 pixels, uint8, (U, 2304).
        mean: Mean gray values, (U,).
        norm: Norms of the pixels less their mean, (U,); 0 for constant images, which have no correlation.
        hashes: Perceptual hashes, uint64, (U,).
    """

    rows: Rows
    image_of_row: Rows
    digests: NDArray[np.bytes_]
    pixels: NDArray[np.uint8]
    mean: NDArray[np.float32]
    norm: NDArray[np.float32]
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        """Return the number of distinct images."""
        return len(self.rows)


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of near duplicates among the distinct images of a store, in ascending order.

    Attributes:
        pairs: Rows of the store, the smaller one first, (P, 2); of byte-identical images the first stands for all.
        correlation: Pearson correlation of their pixels, (P,).
        distance: Hamming distance of their hashes, (P,).
    """

    pairs: Rows
    correlation: NDArray[np.float32]
    distance: NDArray[np.uint8]


@dataclass(frozen=True)
class Matches:
    """Which images of a store are also in another one.

    Attributes:
        exact: Whether an image of the store is byte-identical to one of the other, (N,).
        near: Whether it is only a near duplicate of one, (N,).
        found: Whether an image of the other store has an exact or a near match in this one, (M,).
    """

    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]
    found: NDArray[np.bool_]


def fingerprints(store: PackedStore) -> Fingerprints:
    """Look at every distinct image of a store once."""
    _, first, inverse = np.unique(store.digests, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = first[order]
    pixels = np.empty((len(rows), SIDE * SIDE), np.uint8)
    for i, row in enumerate(rows):
        pixels[i] = _gray(store.image(row)).reshape(-1)
    # In integers: the norm of a constant image must be exactly 0.
    total = pixels.sum(axis=1, dtype=np.int64)
    squares = np.einsum("ij,ij->i", pixels, pixels, dtype=np.int64, casting="unsafe")
    n = pixels.shape[1]
    return Fingerprints(
        rows=rows,
        image_of_row=np.argsort(order)[inverse],
        digests=store.digests[rows],
        pixels=pixels,
        mean=(total / n).astype(np.float32),
        norm=np.sqrt((n * squares - total**2) / n).astype(np.float32),
        hashes=perceptual_hashes(pixels),
    )


def find_near_duplicates(prints: Fingerprints, clips: Rows | None = None) -> NearDuplicates:
    """Return the pairs of different images of a store that are near duplicates.

    Args:
        prints: The images.
        clips: Number of the clip that each image of the store is a frame of, (N,): pairs of one clip do not count.
    """
    varied = np.flatnonzero(prints.norm > 0)
    hashes = prints.hashes[varied]
    clip = np.arange(len(prints)) if clips is None else clips[prints.rows]
    close = ((varied[i], varied[j]) for i, j in close_pairs(hashes))
    shortlist = ((i[clip[i] != clip[j]], j[clip[i] != clip[j]]) for i, j in close)
    left, right, correlation = _confirmed(prints, prints, shortlist)
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    return NearDuplicates(
        pairs=np.column_stack((prints.rows[left], prints.rows[right])),
        correlation=correlation[order],
        distance=np.bitwise_count(prints.hashes[left] ^ prints.hashes[right]),
    )


def find_matches(prints: Fingerprints, other: Fingerprints) -> Matches:
    """Return which images of a store are equal, by digest, or nearly equal to images of another one."""
    left, right = near_pairs(prints, other)
    exact = np.isin(prints.digests, other.digests)
    near = np.zeros(len(prints), bool)
    near[left] = True
    found = np.isin(other.digests, prints.digests)
    found[right] = True
    return Matches(
        exact=exact[prints.image_of_row],
        near=(near & ~exact)[prints.image_of_row],
        found=found[other.image_of_row],
    )


def near_pairs(prints: Fingerprints, other: Fingerprints) -> Pairs:
    """Return the pairs of nearly equal images, the one of `prints`, the other of `other`: indices, (P,) each."""
    ours, theirs = np.flatnonzero(prints.norm > 0), np.flatnonzero(other.norm > 0)
    close = close_pairs(prints.hashes[ours], other.hashes[theirs])
    left, right, _ = _confirmed(prints, other, ((ours[i], theirs[j]) for i, j in close))
    return left, right


def perceptual_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash images by the signs of their 64 lowest frequencies, which brightness and contrast leave alone.

    It is pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) without the
    constant term, so that the threshold is 0 rather than the median.

    Args:
        pixels: (N, 2304).

    Returns:
        uint64, (N,).
    """
    lowest = sorted(np.ndindex(SIDE, SIDE), key=lambda uv: (sum(uv), uv))[1:65]
    u, v = np.array(lowest).T
    waves = np.arange(np.max(lowest) + 1)
    basis = np.cos(np.pi * np.outer(2 * np.arange(SIDE) + 1, waves) / (2 * SIDE)).astype(np.float32)
    hashes = np.empty(len(pixels), np.uint64)
    for part in _slices(len(pixels), PAIRS_AT_ONCE):
        images = pixels[part].reshape(-1, SIDE, SIDE).astype(np.float32)
        positive = (basis.T @ (images @ basis))[:, u, v] > 0
        hashes[part] = np.packbits(np.ascontiguousarray(positive), axis=1).view(np.uint64)[:, 0]
    return hashes


def close_pairs(hashes: NDArray[np.uint64], other: NDArray[np.uint64] | None = None) -> Iterator[Pairs]:
    """Find all pairs of hashes that differ in at most 8 bits, each once.

    Args:
        hashes: (N,).
        other: (M,), or None for the pairs i < j within `hashes`.

    Yields:
        Indices into `hashes` and into `other`, two arrays of one length.
    """
    earlier: list[np.uint64] = []
    for band in BANDS:
        for rows, columns in _buckets(hashes & band, None if other is None else other & band):
            for part in _slices(len(rows), max(1, CELLS_AT_ONCE // len(columns))):
                # Within one list rows and columns are the same: what lies before this part was its columns already.
                rest = columns[part.start :] if other is None else columns
                mixed = hashes[rows[part], None] ^ (hashes if other is None else other)[rest]
                i, j = np.nonzero(np.bitwise_count(mixed) <= MAX_DISTANCE)
                new = np.ones(len(i), bool) if other is not None else j > i
                for mask in earlier:  # pairs that agree there have been found there
                    new &= (mixed[i, j] & mask) != 0
                if new.any():
                    yield rows[part][i[new]], rest[j[new]]
        earlier.append(band)


def _buckets(keys: NDArray[np.uint64], other: NDArray[np.uint64] | None) -> Iterator[Pairs]:
    """Yield the indices with equal keys, in the one list and in the other."""
    buckets = _indices_by_key(keys)
    partners = buckets if other is None else _indices_by_key(other)
    return ((rows, partners[key]) for key, rows in buckets.items() if key in partners)


def _indices_by_key(keys: NDArray[np.uint64]) -> dict[int, Rows]:
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts)[1:], strict=True))


def _confirmed(
    prints: Fingerprints, other: Fingerprints, shortlist: Iterable[Pairs]
) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Keep the pairs whose pixels correlate: their indices, (P,) each, and Pearson correlations, (P,)."""
    kept: list[tuple[Rows, Rows, NDArray[np.float32]]] = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
    for left, right in shortlist:
        for part in _slices(len(left), PAIRS_AT_ONCE):
            i, j = left[part], right[part]
            product = np.einsum("ij,ij->i", _centered(prints, i), _centered(other, j))
            correlation = product / (prints.norm[i] * other.norm[j])
            similar = correlation >= MIN_CORRELATION
            kept.append((i[similar], j[similar], correlation[similar]))
    first, second, values = (np.concatenate(column) for column in zip(*kept, strict=True))
    return first, second, values


def _centered(prints: Fingerprints, index: Rows) -> NDArray[np.float32]:
    return prints.pixels[index].astype(np.float32) - prints.mean[index, None]


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (H, W) or (H, W, 3) as gray values of 48 x 48 pixels."""
    gray = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return fit(gray, SIDE)
