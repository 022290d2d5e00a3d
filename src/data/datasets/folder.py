"""A user's own images, in folders named after their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.readers.class_folders import (
    data_root,
    draw_splits,
    folder_names,
    list_entries,
    names_splits,
    read_entries,
)
from src.data.readers.file_tree import open_tree
from src.data.readers.images import MAX_SIDE
from src.data.readers.splits import check_fractions
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import CANONICAL

NAMES = folder_names(CANONICAL)


class FolderDataModule(StoreDataModule):
    """Images in `split/class/...`, or in `class/...` with a split drawn by a seed; a folder or an archive of it.

    Splits are called train or training; val, valid, validation or dev; test or testing. Of `split/class/...`, a
    validation or test split that is missing is drawn from training. Classes have the names or synonyms of
    `src/data/vocabulary.py`. The id of an image is its path below the folder that holds splits or classes.
    """

    source_hint = (
        "a folder (or a .zip or .tar) with split/class/image, such as train/happy/1.jpg, or with class/image, the "
        f"classes being {', '.join(CANONICAL)} or their synonyms"
    )

    def __init__(self, *, split_shares: Sequence[float], split_seed: int, **common: Any) -> None:
        """Store the options; `conf/data/folder.yaml` documents them.

        Args:
            split_shares: Fractions of train, val and test where splits are to be drawn.
            split_seed: Seed of the draw, independent of the run's.
            **common: Arguments of `StoreDataModule`.

        Raises:
            ConfigError: If the fractions do not sum to 1.
        """
        super().__init__(**common)
        self.split_shares = check_fractions("data.split_shares", split_shares)
        self.split_seed = split_seed

    def store_options(self) -> dict[str, Any]:
        """Return the longest side stored and how splits are drawn."""
        return {"max_side": MAX_SIDE, "split_shares": self.split_shares, "split_seed": self.split_seed}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images.

        Raises:
            ConfigError: If there are no class folders, or the name of one is unknown.
        """
        path = self.source()
        with open_tree(path, self.source_hint) as tree:
            root = data_root(tree, path, _is_top, self.source_hint)
            has_splits = names_splits(root.subfolders(""))
            entries, skipped = list_entries(root, path, NAMES, has_splits)
            yield from skipped
            yield from read_entries(draw_splits(entries, self.split_shares, self.split_seed))


def _is_top(names: Sequence[str]) -> bool:
    return names_splits(names) or any(name.lower() in NAMES for name in names)
