"""JAFFE (Lyons et al., "Coding facial expressions with Gabor wavelets", FG 1998): an example of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.download.sources import Application, Download
from src.data.readers.class_folders import Entry, draw_splits, read_entries
from src.data.readers.file_tree import open_tree
from src.data.readers.images import MAX_SIDE
from src.data.readers.splits import check_fractions
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import canonical_name, canonical_order
from src.utils.errors import ConfigError

LABELS = ("NE", "HA", "SA", "SU", "FE", "DI", "AN")
NAME = re.compile(r"(?P<subject>[A-Z]{2})\.(?P<label>[A-Z]{2})\d\.\d+\.tiff")  # KA.AN1.39.tiff


class JaffeDataModule(StoreDataModule):
    """JAFFE: 213 gray images of ten women in seven classes; the authors give no split.

    Splits are drawn by a seed, so that nobody is in two of them. The id of an image is its path.
    """

    classes = canonical_order(LABELS)
    source_hint = "JAFFE's folder (or an archive of it) with files such as KA.AN1.39.tiff"
    downloads = (
        Download(
            title="JAFFE",
            folder="jaffe",
            citation='M. J. Lyons et al., "Coding facial expressions with Gabor wavelets", FG 1998.',
            terms="For non-commercial research.",
            content=source_hint,
            sources=(Application("application", "https://zenodo.org/records/3451524", "Zenodo asks what for."),),
        ),
    )

    def __init__(self, *, split_shares: Sequence[float], split_seed: int, **common: Any) -> None:
        """Store the options; `conf/data/jaffe.yaml` documents them.

        Args:
            split_shares: Fractions of train, val and test.
            split_seed: Seed of the draw, independent of the run's.
            **common: Arguments of `StoreDataModule`.

        Raises:
            ConfigError: If the fractions are no fractions.
        """
        super().__init__(**common)
        self.split_shares = check_fractions("data.split_shares", split_shares)
        self.split_seed = split_seed

    def store_options(self) -> dict[str, Any]:
        """Return what, beside the files, determines the store: another value gives another store."""
        return {"max_side": MAX_SIDE, "split_shares": self.split_shares, "split_seed": self.split_seed}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images, and what cannot be read, with the reason.

        Raises:
            ConfigError: If no file has such a name.
        """
        path = self.source()
        entries, subjects = [], []
        with open_tree(path, self.source_hint) as tree:
            for file in tree.files:
                name = NAME.fullmatch(PurePosixPath(file.path).name)
                if name:  # others are a README and the like
                    entries.append(Entry(file, canonical_name(name["label"])))
                    subjects.append(name["subject"])
            if not entries:
                raise ConfigError(f"data.path={path} does not hold the data set; expected {self.source_hint}.")
            yield from tree.skipped
            yield from read_entries(draw_splits(entries, self.split_shares, self.split_seed, subjects))
