"""FER2013 as Kaggle's folders of JPEGs (kaggle.com/datasets/msambare/fer2013)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from src.data.readers.archives import is_junk, is_table, open_archive
from src.data.readers.class_folders import (
    SUFFIXES,
    Entry,
    data_root,
    folder_names,
    list_entries,
    names_splits,
    read_entries,
)
from src.data.readers.file_tree import open_tree
from src.data.store.packed_store import Record, Skipped, Split

# The files keep the name of the competition's split; the folder test/ mixes two of them.
SPLIT_OF_PREFIX: dict[str, Split] = {"Training_": "train", "PublicTest_": "val", "PrivateTest_": "test"}
EXPECTED = "Kaggle's folders train/<class>/Training_*.jpg and test/<class>/{PublicTest,PrivateTest}_*.jpg"


def is_fer2013_folder(path: Path) -> bool:
    """Whether `data.path` is a folder of splits or without tables, or an archive that begins with an image."""
    if path.is_dir():
        below = [file.relative_to(path).as_posix() for pattern in ("*", "*/*") for file in path.glob(pattern)]
        return names_splits(below) or not any(map(is_table, below))
    with open_archive(path, "data.path", EXPECTED) as members:
        names = (member.name for member in members or ())
        kinds = (PurePosixPath(name).suffix.lower() in SUFFIXES for name in names if _is_image_or_table(name))
        return next(kinds, False)


def _is_image_or_table(name: str) -> bool:
    return is_table(name) or (PurePosixPath(name).suffix.lower() in SUFFIXES and not is_junk(PurePosixPath(name).parts))


def fer2013_folder(path: Path, labels: Sequence[str]) -> Iterator[Record | Skipped]:
    """Yield the images of the folder or archive; the id is the path below the folder that holds train and test.

    The JPEGs are lossy and do not tell the row of the CSV they were made from.

    Args:
        path: `data.path`: the folder or an archive of it.
        labels: FER2013's classes, canonical names.

    Raises:
        ConfigError: If it has another layout.
    """
    with open_tree(path, EXPECTED) as tree:
        root = data_root(tree, path, names_splits, EXPECTED)
        entries, skipped = list_entries(root, path, folder_names(labels))
        yield from skipped
        named = [(entry, _split(entry)) for entry in entries]
        for entry, split in named:
            if split is None:
                prefixes = ", ".join(SPLIT_OF_PREFIX)
                reason = (
                    f"its name begins with none of {prefixes}, so its split is unknown (data=folder takes any name)"
                )
                yield Skipped(entry.file.path, reason)
        yield from read_entries([replace(entry, split=split) for entry, split in named if split])


def _split(entry: Entry) -> Split | None:
    name = PurePosixPath(entry.file.path).name
    return next((split for prefix, split in SPLIT_OF_PREFIX.items() if name.startswith(prefix)), None)
