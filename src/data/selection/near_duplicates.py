"""Near duplicates: one image twice, but for brightness, contrast, compression or a little noise.

A 64-bit perceptual hash gives a shortlist (Hamming distance up to 8), of which only pairs whose pixels correlate are
kept: faces are all alike, and the hash alone is wrong about most pairs at distance 4 and beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from tempfile import TemporaryFile

import cv2
import numpy as np
from numpy.typing import NDArray

from src.data.readers.images import fit
from src.data.store.packed_store import PackedStore

MAX_DISTANCE = 8
MIN_CORRELATION = 0.98
SIDE = 48
# Numbers of hashes beyond which one more band pays: a tenth of the pairs are left to look at, four times as often.
MORE_BANDS = (20_000, 250_000)
# Bytes of pixels beyond which they are kept in a temporary file instead of memory.
IN_MEMORY = 1 << 30
IMAGES_AT_ONCE = 2048  # 2 x 2048 images in float32 are 38 MB
PAIRS_AT_ONCE = 1 << 20

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
    pixels = _pixel_table(len(rows))
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
    for part in _slices(len(pixels), IMAGES_AT_ONCE):
        images = pixels[part].reshape(-1, SIDE, SIDE).astype(np.float32)
        positive = (basis.T @ (images @ basis))[:, u, v] > 0
        hashes[part] = np.packbits(np.ascontiguousarray(positive), axis=1).view(np.uint64)[:, 0]
    return hashes


def agreements(n: int) -> list[np.uint64]:
    """Return masks, one of which covers bits that agree in any two hashes that differ in at most 8 bits.

    With the 64 bits cut into 8 + k bands, at least k bands agree, wherever the differing bits are. More bands are more
    masks, of more bits each: of many hashes, ever fewer share them, so that the time stays in proportion.

    Args:
        n: Number of hashes.
    """
    k = 1 + sum(n > limit for limit in MORE_BANDS)
    bands = [sum(1 << int(bit) for bit in bits) for bits in np.array_split(np.arange(64), MAX_DISTANCE + k)]
    return [np.uint64(sum(chosen)) for chosen in combinations(bands, k)]


def close_pairs(hashes: NDArray[np.uint64], other: NDArray[np.uint64] | None = None) -> Iterator[Pairs]:
    """Find all pairs of hashes that differ in at most 8 bits, each once.

    Args:
        hashes: (N,).
        other: (M,), or None for the pairs i < j within `hashes`.

    Yields:
        Indices into `hashes` and into `other`, two arrays of one length.
    """
    n = len(hashes)
    everything = hashes if other is None else np.concatenate((hashes, other))
    earlier: list[np.uint64] = []
    for mask in agreements(len(everything)):
        order = np.argsort(everything & mask)
        ordered = everything[order]
        for here, there in _equal_pairs(ordered & mask):
            mixed = ordered[here] ^ ordered[there]
            close = np.bitwise_count(mixed) <= MAX_DISTANCE
            mixed, found = mixed[close], np.sort((order[here[close]], order[there[close]]), axis=0)
            new = np.ones(len(mixed), bool) if other is None else (found[0] < n) & (found[1] >= n)
            for before in earlier:  # pairs that agree there have been found there
                new &= (mixed & before) != 0
            if new.any():
                yield found[0][new], found[1][new] - (0 if other is None else n)
        earlier.append(mask)


def _equal_pairs(ordered: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Yield the pairs of places of equal values in a sorted array: neighbors, then the next but one, and so on."""
    step, here = 1, np.arange(len(ordered))
    while len(here):
        here = here[: np.searchsorted(here, len(ordered) - step)]
        here = here[ordered[here] == ordered[here + step]]
        yield from ((here[part], here[part] + step) for part in _slices(len(here), PAIRS_AT_ONCE))
        step += 1


def _confirmed(
    prints: Fingerprints, other: Fingerprints, shortlist: Iterable[Pairs]
) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Keep the pairs whose pixels correlate: their indices, (P,) each, and Pearson correlations, (P,)."""
    kept: list[tuple[Rows, Rows, NDArray[np.float32]]] = [(np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))]
    for left, right in shortlist:
        for part in _slices(len(left), IMAGES_AT_ONCE):
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


def _pixel_table(n: int) -> NDArray[np.uint8]:
    shape = (n, SIDE * SIDE)
    if n * SIDE * SIDE <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    with TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (H, W) or (H, W, 3) as gray values of 48 x 48 pixels."""
    gray = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return fit(gray, SIDE)
