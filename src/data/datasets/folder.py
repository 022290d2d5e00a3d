"""A user's own images, in folders named after their classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from src.data.datamodule import StoreDataModule
from src.data.readers.class_folders import (
    SUFFIXES,
    Entry,
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
from src.data.vocabulary import CANONICAL, canonical_name

NAMES = folder_names(CANONICAL)
REMEDY = 'Say what they hold, such as data.class_folders={"0": angry, "1_disgust": disgust}, or move them out.'


class FolderDataModule(StoreDataModule):
    """Images in `split/class/...`, or in `class/...` with a split drawn by a seed; a folder or an archive of it.

    Splits are called train or training; val, valid, validation or dev; test or testing. Of `split/class/...`, a
    validation or test split that is missing is drawn from training. Classes have the names or synonyms of
    `src/data/vocabulary.py`. The id of an image is its path below the folder that holds splits or classes.
    """

    named_suffixes: ClassVar[Collection[str]] = SUFFIXES
    source_hint = (
        "a folder (or a .zip or .tar) with split/class/image, such as train/happy/1.jpg, or with class/image, the "
        f"classes being {', '.join(CANONICAL)} or their synonyms"
    )

    def __init__(
        self,
        *,
        split_shares: Sequence[float],
        split_seed: int,
        class_folders: Mapping[Any, str] | None = None,
        **common: Any,
    ) -> None:
        """Store the options; `conf/data/folder.yaml` documents them.

        Args:
            split_shares: Fractions of train, val and test where splits are to be drawn.
            split_seed: Seed of the draw, independent of the run's.
            class_folders: Name of a folder -> the class it holds, for names that are none of a class.
            **common: Arguments of `StoreDataModule`.

        Raises:
            ConfigError: If the fractions do not sum to 1, or a class of `class_folders` is unknown.
        """
        super().__init__(**common)
        self.split_shares = check_fractions("data.split_shares", split_shares)
        self.split_seed = split_seed
        named = {str(folder).strip().lower(): canonical_name(name) for folder, name in (class_folders or {}).items()}
        self._class_folders = named

    def store_options(self) -> dict[str, Any]:
        """Return the longest side stored and how splits are drawn."""
        options = {"max_side": MAX_SIDE, "split_shares": self.split_shares, "split_seed": self.split_seed}
        return {**options, **({"class_folders": self._class_folders} if self._class_folders else {})}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images.

        Raises:
            ConfigError: If there are no class folders, or the name of one is unknown.
        """
        path, names = self.source(), {**NAMES, **self._class_folders}

        def is_top(subfolders: Sequence[str]) -> bool:
            return names_splits(subfolders) or any(name.lower() in names for name in subfolders)

        with open_tree(path, self.source_hint) as tree:
            root = data_root(tree, path, is_top, self.source_hint)
            has_splits = names_splits(root.subfolders(""))
            entries, skipped = list_entries(root, path, names, has_splits, REMEDY, self.named_suffixes)
            yield from skipped
            yield from self._read(entries)

    def _read(self, entries: Sequence[Entry]) -> Iterator[Record | Skipped]:
        """Yield what the files of the class folders hold."""
        yield from read_entries(draw_splits(entries, self.split_shares, self.split_seed))
