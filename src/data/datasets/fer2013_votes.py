"""FER2013 with its own labels, and the votes of FER+ beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np

from src.data.circumplex import project
from src.data.datasets.fer2013 import Fer2013DataModule
from src.data.datasets.ferplus import FerPlusDataModule
from src.data.datasets.ferplus_votes import Ballot, decide
from src.data.store.packed_store import Record
from src.data.vocabulary import CANONICAL


class Fer2013VotesDataModule(FerPlusDataModule):
    """FER2013 as it is, seven classes, with what FER+ says of the same images as a second target.

    All images of FER2013 with its labels and split. The second target is the distribution of FER+'s votes over eight
    classes by the rule of `data.mode`, absent where that rule leaves an image out; valence and arousal are derived
    from it, see `src.data.circumplex`.
    """

    classes: ClassVar[tuple[str, ...]] = Fer2013DataModule.classes
    second_vocabulary = ("ferplus", CANONICAL)
    derived = ("valence_arousal",)

    @property
    def vocabulary(self) -> str:
        """Name of the classes of the labels."""
        return "fer2013"

    def _decided(self, record: Record, ballot: Ballot) -> Iterator[Record]:
        self._check_split(record, ballot)
        decision = decide(ballot.votes, self.mode)
        if isinstance(decision, str):
            yield record
            return
        chosen = decision > 0 if self.mode == "multi" else decision
        distribution = (chosen / chosen.sum()).astype(np.float32)
        valence, arousal = project(distribution)
        yield replace(record, distribution=distribution, valence=valence, arousal=arousal)
