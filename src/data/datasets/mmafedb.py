"""MMAFEDB, Mahmoudi's collection of face crops on Kaggle (kaggle.com/datasets/mahmoudima/mma-facial-expression)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.download.kaggle import KaggleDataset
from src.data.download.sources import Download
from src.data.readers.class_folders import data_root, folder_names, list_entries, names_splits, read_entries
from src.data.readers.file_tree import open_tree
from src.data.readers.images import MAX_SIDE
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import canonical_order
from src.utils.errors import ConfigError

# What its images are called: `<row of ExpW's label.lst>Exp<label><ExpW's name>`, and FER2013's by split and row.
EXPW = re.compile(r"((?P<row>\d+)|x\d+_\d+)Exp\d")
FER2013 = re.compile(r"(Training|PublicTest|PrivateTest)_\d+")
SIZES = {"FER2013": 35_887, "ExpW": 91_793}
# The names of the class folders.
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def _origin(file: str) -> str:
    return "ExpW" if EXPW.match(file) else "FER2013" if FER2013.match(file) else "unknown"


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
    downloads = (
        Download(
            title="MMAFEDB",
            folder="mmafedb",
            citation=(
                "It has no paper. What it consists of: FER2013 (Goodfellow et al., ICONIP 2013) and ExpW (Z. Zhang, P. "
                'Luo, C. C. Loy and X. Tang, "From facial expression recognition to interpersonal relation '
                'prediction", IJCV 126(5), 2018).'
            ),
            terms="Those of what it consists of: ExpW is for non-commercial research, FER2013 for research.",
            content=source_hint,
            sources=(KaggleDataset("kaggle", "mahmoudima/mma-facial-expression"),),
        ),
    )

    def origins(self) -> list[str]:
        """Return the collection that each image comes from, by its file's name, (N,)."""
        return [_origin(PurePosixPath(name).name) for name in self.store.ids.tolist()]

    def remarks(self) -> list[str]:
        """Say how much of FER2013 and ExpW is there, and how ExpW was split."""
        counts = Counter(self.origins())
        parts = ", ".join(
            f"{counts[name]:,} of the {size:,} images of {name}" for name, size in SIZES.items() if counts[name]
        )
        remarks = [f"By the names of its files it holds {parts}."] if parts else []
        ordered = self._classes_in_row_order()
        if ordered:
            remarks.append(
                f"ExpW's images are split in the order of its rows, not at random: in {len(ordered)} classes "
                f"({', '.join(ordered)}) a split is one range of rows, or two. ExpW's rows follow the words that its "
                "images were searched with, so that training and test faces were found by other words, and test "
                "accuracy is also that of a change of domain."
            )
        return remarks

    def _classes_in_row_order(self) -> list[str]:
        """Return the classes in which each split is a range of ExpW's rows, or two."""
        store, rows = self.store, defaultdict(list)
        for i, name in enumerate(store.ids.tolist()):
            match = EXPW.match(PurePosixPath(name).name)
            if match and match["row"]:
                rows[store.class_names[store.labels[i]]].append((int(match["row"]), int(store.splits[i])))
        ordered = []
        for name, entries in rows.items():
            splits = [split for _, split in sorted(entries)]
            changes = sum(one != other for one, other in pairwise(splits))
            if changes and changes <= 2 * (len(set(splits)) - 1):
                ordered.append(name)
        return list(canonical_order(ordered))

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
