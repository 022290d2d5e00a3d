"""Data sets whose folders say split and class: listing, checking and reading their images."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from src.data.readers.file_tree import Tree, TreeFile
from src.data.readers.images import UnreadableImage, read_image
from src.data.readers.splits import SPLIT_NAMES, complete_splits
from src.data.store.packed_store import Record, Skipped, Split
from src.data.vocabulary import SYNONYMS
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# Outside the class folders, what has none of these endings is a list or a license, not an image out of place.
SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".ppm", ".pgm"),
    *(".heic", ".heif", ".hif"),  # with the extra heic; without it, they are named among those that cannot be read
}
REMEDY = "Rename them, or move them out."
# Which split keeps a file that is in several.
PRIORITY: tuple[Split | None, ...] = ("test", "val", "train", None)


@dataclass(frozen=True)
class Entry:
    """An image file and what is known of it.

    Attributes:
        file: The file; its path is the image's id.
        label: Canonical class name.
        split: Its split, or None while it is not drawn yet.
        valence: In [-1, 1], NaN if not annotated.
        arousal: In [-1, 1], NaN if not annotated.
    """

    file: TreeFile
    label: str
    split: Split | None = None
    valence: float = math.nan
    arousal: float = math.nan


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """Return what folders of these classes may be called, in lower case, and the canonical name each stands for."""
    return {alias: name for name in names for alias in (name, *SYNONYMS[name])}


def names_splits(names: Sequence[str]) -> bool:
    """Whether a folder with these subfolders is divided into splits."""
    return any(name.lower() in SPLIT_NAMES for name in names)


def data_root(tree: Tree, path: Path, wanted: Callable[[Sequence[str]], bool], expected: str) -> Tree:
    """Return the part of a tree that holds the data set, so that users may point above it.

    Args:
        tree: What `data.path` holds.
        path: `data.path`, for messages.
        wanted: Tells the data set's top by the names of its subfolders.
        expected: What the data set expects, for messages.

    Raises:
        ConfigError: If there is no data set, or more than one.
    """
    roots = tree.topmost(wanted)
    if len(roots) != 1:
        found = f"holds several data sets ({', '.join(roots)})" if roots else "does not hold the data set"
        raise ConfigError(f"data.path={path} {found}; expected {expected}. Point data.path to that folder.")
    root = tree.below(roots[0])
    left_out = len(tree.files) - len(root.files)
    if left_out:
        log.warning("data.path=%s: %d files outside the folder %s are left out", path, left_out, roots[0])
    return root


def list_entries(
    tree: Tree,
    path: Path,
    classes: Mapping[str, str],
    has_splits: bool = True,
    remedy: str = REMEDY,
    named_suffixes: Collection[str] = SUFFIXES,
) -> tuple[list[Entry], list[Skipped]]:
    """List the images of `split/class/...` or `class/...`.

    Args:
        tree: The data set, without folders above those.
        path: `data.path`, for messages.
        classes: Names of the class folders, in lower case, and their canonical names.
        has_splits: Whether the top holds splits rather than classes.
        remedy: What to do about class folders of unknown names, for the message.
        named_suffixes: Endings of the files that are left aside by name where they are in no class folder.

    Returns:
        The images, in the tree's order, and what is left aside, with the reason.

    Raises:
        ConfigError: If a class folder's name is unknown.
    """
    depth = 2 if has_splits else 1
    labels = _class_folders(tree, path, depth, classes, remedy)
    entries: list[Entry] = []
    skipped = list(tree.skipped)
    others: Counter[str] = Counter()
    for file in tree.files:
        parts = file.parts
        label = labels.get("/".join(parts[:depth])) if len(parts) > depth else None
        if label:
            entries.append(Entry(file, label, SPLIT_NAMES[parts[0].lower()] if has_splits else None))
        elif len(parts) > depth:
            others[parts[0]] += 1
        elif PurePosixPath(file.path).suffix.lower() in named_suffixes:
            skipped.append(Skipped(file.path, "in no class folder"))
    for name, n in others.items():
        log.warning(
            "data.path=%s: the folder %s is no split (train, val or test); its %d files are left out", path, name, n
        )
    filled = {"/".join(entry.file.parts[:depth]) for entry in entries}
    for name in sorted(labels.keys() - filled):
        log.warning("data.path=%s: the class folder %s is empty", path, name)
    return entries, skipped


def _class_folders(tree: Tree, path: Path, depth: int, classes: Mapping[str, str], remedy: str) -> dict[str, str]:
    """Return the class of each class folder."""
    labels: dict[str, str] = {}
    unknown: list[str] = []
    for folder in sorted(tree.folders):
        parts = PurePosixPath(folder).parts
        if len(parts) != depth or (depth == 2 and parts[0].lower() not in SPLIT_NAMES):
            continue
        label = classes.get(parts[-1].strip().lower())
        if label is None:
            unknown.append(folder)
        else:
            labels[folder] = label
    if unknown:
        raise ConfigError(
            f"data.path={path}: no known class has the name of the folder(s) {', '.join(map(repr, unknown))}; expected "
            f"{', '.join(classes)}. {remedy}"
        )
    return labels


def draw_splits(
    entries: Sequence[Entry], fractions: Sequence[float], seed: int, groups: Sequence[Hashable] | None = None
) -> list[Entry]:
    """Return the entries with a split each; see `complete_splits`."""
    splits = complete_splits(
        [entry.file.path for entry in entries],
        [entry.label for entry in entries],
        [entry.split for entry in entries],
        fractions,
        seed,
        groups,
    )
    return [replace(entry, split=split) for entry, split in zip(entries, splits, strict=True)]


def read_entries(entries: Sequence[Entry]) -> Iterator[Record | Skipped]:
    """Read the images of `without_links`."""
    return (entry if isinstance(entry, Skipped) else _read(entry) for entry in without_links(entries))


def without_links(entries: Sequence[Entry]) -> Iterator[Entry | Skipped]:
    """Yield the entries; a file that links bring into several splits counts for the one held out most."""
    owners: dict[Hashable, Entry] = {}
    for entry in sorted(entries, key=lambda entry: PRIORITY.index(entry.split)):
        owners.setdefault(entry.file.identity, entry)
    for entry in entries:
        owner = owners[entry.file.identity]
        if owner.split == entry.split:
            yield entry
        else:
            reason = f"the same file as {owner.file.path}, which is in the {owner.split} split"
            yield Skipped(entry.file.path, reason)


def _read(entry: Entry) -> Record | Skipped:
    try:
        image = read_image(entry.file.read())
    except UnreadableImage as error:
        return Skipped(entry.file.path, str(error))
    return Record(entry.file.path, entry.split or "train", entry.label, image, entry.valence, entry.arousal)
