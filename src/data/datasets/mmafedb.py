"""MMAFEDB, Mahmoudi's collection of face crops on Kaggle (kaggle.com/datasets/mahmoudima/mma-facial-expression)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.readers.class_folders import data_root, folder_names, list_entries, names_splits, read_entries
from src.data.readers.file_tree import open_tree
from src.data.readers.images import MAX_SIDE
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import canonical_order
from src.utils.errors import ConfigError

# The names of the class folders.
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


class MmafedbDataModule(StoreDataModule):
    """MMAFEDB: 127,680 faces in seven classes; its own split, 92,968 / 17,356 / 17,356.

    It has no paper. By its class counts it is FER2013 (Goodfellow et al., "Challenges in representation learning",
    ICONIP 2013) plus ExpW (Zhang et al., "From facial expression recognition to interpersonal relation prediction",
    IJCV 2018; 91,793 faces): each split holds FER2013's split of that name and 70, 15 or 15 % of ExpW. Using it beside
    FER2013 doubles every image of FER2013.

    The id of an image is its path below the folder that holds train, valid and test.
    """

    classes = canonical_order(LABELS)
    source_hint = (
        "the folder MMAFEDB (or its .zip) with train/, valid/ and test/, each with angry/, disgust/, fear/, happy/, "
        "neutral/, sad/ and surprise/"
    )

    def store_options(self) -> dict[str, Any]:
        """Return the longest side stored."""
        return {"max_side": MAX_SIDE}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images.

        Raises:
            ConfigError: If the splits are not there, or a class folder's name is unknown.
        """
        path = self.source()
        with open_tree(path, self.source_hint) as tree:
            root = data_root(tree, path, names_splits, self.source_hint)
            entries, skipped = list_entries(root, path, folder_names(LABELS))
            absent = {"train", "val", "test"} - {str(entry.split) for entry in entries}
            if absent:
                raise ConfigError(
                    f"data.path={path} has no {' and no '.join(sorted(absent))} images; expected {self.source_hint}."
                )
            yield from skipped
            yield from read_entries(entries)
