"""What is in a store, and what is wrong with it: counts, duplicates, conflicts, blank images, skipped files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.audit.origins import Table, count_origins, shared_images
from src.data.selection.exact_duplicates import clean_rows, conflicting_groups, training_rows
from src.data.selection.near_duplicates import Fingerprints, NearDuplicates, find_near_duplicates, fingerprints
from src.data.store.packed_store import SPLITS, PackedStore
from src.data.vocabulary import canonical_order, index_map
from src.utils.errors import ConfigError
from src.utils.schemas import checked, read_json

log = logging.getLogger(__name__)

FORMAT = 2
EXAMPLES = 20  # near duplicates listed per pair of splits
COMMON_SIZES = 10
# What `audit.json` calls some fields since its first version.
IN_THE_FILE = {
    "images": "pictures",
    "extra_duplicates": "extra_copies",
    "exact_duplicates": "copies",
    "near_duplicates": "near_copies",
}

_Found = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows of the pairs (P, 2), and which pairs they are (P,)


@dataclass(frozen=True)
class Audit:
    """The findings; everything is text, numbers, lists and dictionaries, so that JSON gives the same object back.

    Attributes:
        store: Folder name of the store.
        images: Number of images.
        counts: Split -> class -> number of images.
        modes: `gray` and `rgb` -> number of images.
        sizes: The most common sizes, `<width>x<height>` -> number of images; `other` sums up the rest.
        blank: Ids of the images of a single color.
        exact_groups: Number of groups of byte-identical images.
        extra_duplicates: Number of images that these groups have more than one each.
        exact_duplicates: Split -> other split -> images of the split that have an exact duplicate in the other (on the
            diagonal: another one in the same).
        conflicts: Groups of byte-identical images that carry several labels: `ids`, `splits` and `labels`.
        training_after_dedup: Training images that `data.dedup=true` leaves.
        clean_test: Test images without an exact duplicate elsewhere, one per group of duplicates.
        near_pairs: Number of pairs of near duplicates among the distinct images.
        near_pairs_between: `<split>-<split>` -> pairs of which one is in the first split, the other in the second.
        near_duplicates: Split -> other split -> images of the split that have a near duplicate in the other.
        near_examples: The first of these pairs: `ids`, `splits`, `labels`, `correlation` and hash `distance`.
        skipped: Files that could not be read: `id` and `reason`.
        origins: Origin -> split -> number of images, where a data set joins several collections; else empty.
        shared: Origin -> other origin -> images of the first that have an exact or near duplicate in the second.
        remarks: What the data set says of itself, in sentences.
        format: Version of these fields.
    """

    store: str
    images: int
    counts: Table
    modes: dict[str, int]
    sizes: dict[str, int]
    blank: list[str]
    exact_groups: int
    extra_duplicates: int
    exact_duplicates: Table
    conflicts: list[dict[str, list[str]]]
    training_after_dedup: int
    clean_test: int
    near_pairs: int
    near_pairs_between: dict[str, int]
    near_duplicates: Table
    near_examples: dict[str, list[dict[str, Any]]]
    skipped: list[dict[str, str]]
    origins: Table
    shared: Table
    remarks: list[str]
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return what `audit.json` holds."""
        return {IN_THE_FILE.get(key, key): value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any], source: object = "this audit") -> Audit:
        """Return what `to_dict` returned.

        Raises:
            ConfigError: If it is something else.
        """
        fields = {written: field for field, written in IN_THE_FILE.items()}
        known = {fields.get(key, key): value for key, value in content.items()}
        return checked(cls, known, source, "It is made anew.")

    @classmethod
    def read(cls, file: Path) -> Audit | None:
        """Return an audit that was written, None if there is none of today's format, or a broken one."""
        content = read_json(file, dict[str, Any])
        if content.get("format") != FORMAT:
            return None
        try:
            return cls.from_dict(content, file)
        except ConfigError as error:
            log.warning("%s", error)
            return None


def audit(
    store: PackedStore,
    class_names: Sequence[str] | None = None,
    *,
    origins: Sequence[str] | None = None,
    clips: Sequence[str] | None = None,
    remarks: Sequence[str] = (),
) -> Audit:
    """Audit a store.

    Args:
        store: The images.
        class_names: Classes to count beside those that the store has, so that empty ones show up.
        origins: Collection that each image comes from, (N,), if there are several.
        clips: Clip that each image is a frame of, (N,): near duplicates within one are not looked for.
        remarks: What the data set says of itself.
    """
    prints = fingerprints(store)
    occurrences = _occurrences(store, prints)
    per_image = occurrences.sum(axis=1)
    modes, sizes = _shapes(store)
    near = find_near_duplicates(prints, None if clips is None else np.unique(clips, return_inverse=True)[1])
    between = _near_between(store, prints, near)
    return Audit(
        store=store.path.name,
        images=len(store),
        counts=_counts(store, canonical_order([*store.class_names, *(class_names or ())])),
        modes=modes,
        sizes=sizes,
        blank=_blank(store, prints),
        exact_groups=int((per_image > 1).sum()),
        extra_duplicates=int((per_image - 1).sum()),
        exact_duplicates=_table(_exact_duplicates(occurrences)),
        conflicts=[_describe(store, rows) for rows in conflicting_groups(store)],
        training_after_dedup=len(training_rows(store)),
        clean_test=len(clean_rows(store, "test")),
        near_pairs=len(near.pairs),
        near_pairs_between={name: len(rows) for name, (rows, _) in between.items()},
        near_duplicates=_table(_near_duplicates(prints, near, occurrences)),
        near_examples={name: _examples(store, near, found) for name, found in between.items()},
        skipped=[vars(entry) for entry in store.skipped],
        origins=count_origins(store, origins) if origins else {},
        shared=shared_images(origins, prints, near) if origins else {},
        remarks=list(remarks),
    )


def _counts(store: PackedStore, class_names: Sequence[str]) -> Table:
    index = index_map(store.class_names, class_names)
    labels = {split: store.labels[store.rows(split)] for split in SPLITS}
    counts = {
        split: np.bincount(index[found[found >= 0]], minlength=len(class_names)) for split, found in labels.items()
    }
    return {split: dict(zip(class_names, numbers.tolist(), strict=True)) for split, numbers in counts.items()}


def _shapes(store: PackedStore) -> tuple[dict[str, int], dict[str, int]]:
    shapes = Counter(store.image(row).shape for row in range(len(store)))
    modes, sizes = Counter[str](), Counter[str]()
    for (height, width, *channels), number in shapes.items():
        modes["rgb" if channels else "gray"] += number
        sizes[f"{width}x{height}"] += number
    common = dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:COMMON_SIZES])
    if len(common) < len(sizes):
        common["other"] = len(store) - sum(common.values())
    return dict(sorted(modes.items())), common


def _blank(store: PackedStore, prints: Fingerprints) -> list[str]:
    """Return the ids of constant images; only images that are constant when reduced need a full look."""
    suspects = np.flatnonzero(prints.norm == 0)
    blank = [i for i in suspects if _is_constant(store.image(prints.rows[i]))]
    return [str(name) for name in store.ids[np.isin(prints.image_of_row, blank)]]


def _is_constant(image: NDArray[np.uint8]) -> bool:
    return bool((image == image[:1, :1]).all())


def _occurrences(store: PackedStore, prints: Fingerprints) -> NDArray[np.int64]:
    """Return how often each of the U distinct images is in each split, (U, 3)."""
    keys = prints.image_of_row * len(SPLITS) + store.splits
    return np.bincount(keys, minlength=len(prints) * len(SPLITS)).reshape(-1, len(SPLITS))


def _exact_duplicates(occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images of a split have an exact duplicate in each split, (3, 3)."""
    n = len(SPLITS)
    others = occurrences[:, None, :] - np.eye(n, dtype=np.int64)  # beside the image itself
    numbers: NDArray[np.int64] = (occurrences[:, :, None] * (others > 0)).sum(axis=0)
    return numbers


def _near_between(store: PackedStore, prints: Fingerprints, near: NearDuplicates) -> dict[str, _Found]:
    """Sort near duplicates by the splits they are in, each image by its first row of the split."""
    rows = np.arange(len(store))[::-1]
    first_row = np.full((len(prints), len(SPLITS)), -1)
    first_row[prints.image_of_row[rows], store.splits[rows]] = rows
    left, right = prints.image_of_row[near.pairs].T
    found = {}
    for s, first in enumerate(SPLITS):
        for t, second in enumerate(SPLITS[s:], start=s):
            straight, crossed = (
                np.column_stack((first_row[a, s], first_row[b, t])) for a, b in ((left, right), (right, left))
            )
            chosen = np.where((straight >= 0).all(axis=1, keepdims=True), straight, crossed)
            index = np.flatnonzero((chosen >= 0).all(axis=1))
            found[f"{first}-{second}"] = chosen[index], index
    return found


def _near_duplicates(prints: Fingerprints, near: NearDuplicates, occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images of a split have a near duplicate in each split, (3, 3)."""
    left, right = prints.image_of_row[near.pairs].T
    partner_in = np.zeros(occurrences.shape, bool)
    np.logical_or.at(partner_in, left, occurrences[right] > 0)
    np.logical_or.at(partner_in, right, occurrences[left] > 0)
    return occurrences.T @ partner_in


def _examples(store: PackedStore, near: NearDuplicates, found: _Found) -> list[dict[str, Any]]:
    return [
        {
            **_describe(store, rows),
            "correlation": round(float(near.correlation[i]), 4),
            "distance": int(near.distance[i]),
        }
        for rows, i in zip(found[0][:EXAMPLES], found[1], strict=False)
    ]


def _describe(store: PackedStore, rows: NDArray[np.int64]) -> dict[str, list[str]]:
    return {
        "ids": [str(name) for name in store.ids[rows]],
        "splits": [SPLITS[split] for split in store.splits[rows]],
        "labels": [store.class_names[label] if label >= 0 else "" for label in store.labels[rows]],
    }


def _table(numbers: NDArray[np.int64]) -> Table:
    """Turn (3, 3) into split -> other split -> number."""
    return {split: dict(zip(SPLITS, row.tolist(), strict=True)) for split, row in zip(SPLITS, numbers, strict=True)}
