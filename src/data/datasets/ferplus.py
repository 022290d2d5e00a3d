"""FER+: FER2013's images with the votes of ten people on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from src.data.datasets import fer2013
from src.data.datasets.fer2013 import Fer2013DataModule
from src.data.datasets.fer2013_folder import is_fer2013_folder
from src.data.datasets.ferplus_votes import EXPECTED, Ballot, decide, read_votes
from src.data.download.sources import Download
from src.data.download.web import WebFile
from src.data.options import Mode
from src.data.readers.fingerprint import source_fingerprint
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import CANONICAL
from src.utils.errors import ConfigError

VOTES = Download(
    title="The votes of FER+",
    folder="ferplus",
    citation=(
        'E. Barsoum, C. Zhang, C. Canton Ferrer and Z. Zhang, "Training deep networks for facial expression '
        'recognition with crowd-sourced label distribution", ICMI 2016.'
    ),
    terms="MIT License, Microsoft Corporation.",
    content=EXPECTED,
    sources=(
        WebFile(
            name="github",
            url="https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv",
            sha256="9206e20d62f56475939f516847d61753e4860caeac9718b560129541b776fc2c",
            home="https://github.com/microsoft/FERPlus",
        ),
    ),
)


class FerPlusDataModule(Fer2013DataModule):
    """FER+: FER2013's images in eight classes, by the votes of ten people on each.

    E. Barsoum, C. Zhang, C. Canton Ferrer and Z. Zhang, "Training deep networks for facial expression recognition with
    crowd-sourced label distribution", ICMI 2016. The label is the class with most votes, in canonical order where
    votes tie; FER2013's own labels are not used. Its split is FER2013's. The id of an image is its row, from 0.

    `mode` chooses the images kept and what is trained on, by the rules of the authors' code
    (github.com/microsoft/FERPlus, src/ferplus.py): `majority` a label, `soft` the distribution of the votes (their
    "probability" and "crossentropy"), `multi` all classes with 30 % of the votes or more, alike.
    """

    classes: ClassVar[tuple[str, ...]] = CANONICAL
    # Of FER2013 only the source whose rows the votes count.
    downloads = (replace(fer2013.DOWNLOAD, sources=(fer2013.COMPETITION,)), VOTES)

    def __init__(self, *, votes_path: str | None, mode: Mode, **common: Any) -> None:
        """Store the options; `conf/data/ferplus.yaml` documents them.

        Args:
            votes_path: The CSV of the votes.
            mode: `majority`, `soft` or `multi`.
            **common: Arguments of `StoreDataModule`.
        """
        super().__init__(**common)
        self.votes_path, self.mode = votes_path, mode

    def store_options(self) -> dict[str, Any]:
        """Return the mode and the content of the votes."""
        votes = source_fingerprint(self._votes_file(), {}, self.cache_dir / "sources.json")
        return {**super().store_options(), "mode": self.mode, "votes": votes}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images that the mode keeps, in the order of the CSV.

        Raises:
            ConfigError: If pixels or votes are not what is expected, or do not belong together.
        """
        path, votes_path = self.source(), self._votes_file()
        if is_fer2013_folder(path):
            raise ConfigError(
                f"data.path={path} holds images whose names do not tell their row, by which the votes are assigned; "
                f"expected {self.source_hint}."
            )
        ballots = read_votes(votes_path)
        self.left_out.clear()
        images = -1
        for images, record in enumerate(super().records()):
            if images < len(ballots):
                yield from self._decided(cast(Record, record), ballots[images])
        if images + 1 != len(ballots):
            raise ConfigError(
                f"data.votes_path={votes_path} has {len(ballots):,} rows, but data.path={path} has {images + 1:,} "
                "images; expected the same images in the same order. Download both again."
            )

    def _check_split(self, record: Record, ballot: Ballot) -> None:
        if ballot.split != record.split:
            raise ConfigError(
                f"data.votes_path={self.votes_path}: row {record.id} is in the {ballot.split} split, but in the "
                f"{record.split} split of data.path={self.path}; expected the same images in the same order. "
                "Download both again."
            )

    def _decided(self, record: Record, ballot: Ballot) -> Iterator[Record]:
        self._check_split(record, ballot)
        decision = decide(ballot.votes, self.mode)
        if isinstance(decision, str):
            self.left_out[decision] += 1
            return
        label = CANONICAL[int(decision.argmax())]
        if self.mode == "majority":
            yield replace(record, label=label)
            return
        chosen = decision > 0 if self.mode == "multi" else decision
        yield replace(record, label=label, distribution=(chosen / chosen.sum()).astype(np.float32))

    def _votes_file(self) -> Path:
        path = self.find_source("data.votes_path", self.votes_path, "ferplus", EXPECTED)
        if not path.is_file():
            raise ConfigError(f"data.votes_path={path} is no file; data={self.name} expects {EXPECTED}.")
        return path
