"""Several data sets as one: mapped by class name, every image once unless duplicates are wanted."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from hydra.utils import get_class
from numpy.typing import NDArray

from src.data.datamodule import StoreDataModule
from src.data.options import CHOICES, OF_THE_RUN, RULES
from src.data.selection.cross_duplicates import Candidates, find_duplicates
from src.data.store.packed_store import SPLITS, Record, Skipped
from src.data.vocabulary import CANONICAL
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.validation import check_values

log = logging.getLogger(__name__)

# Options that are said once, for the whole; merged classes may have names that no store knows.
WHOLE_KEYS = (
    *("batch_size", "num_workers", "image_size", "sampler", "dedup", "merge", "half", "half_seed"),
    *OF_THE_RUN,
)


class Part:
    """One of the data sets.

    Attributes:
        label: Its name, with a number if it comes more than once.
        data: Its data module.
    """

    def __init__(self, label: str, data: StoreDataModule) -> None:
        """Store the attributes."""
        self.label, self.data = label, data

    @cached_property
    def _distributions(self) -> NDArray[np.float32] | None:
        """Distributions over the classes that are taken from it, (N, 8), or None if its store has none.

        Those of a second vocabulary stay as they are.
        """
        known: NDArray[np.float32] | None = self.data.store.distribution
        if known is None or self.data.second_vocabulary is not None:
            return known
        return self.data.selection.targets(known, CANONICAL)

    def record(self, row: int, label: str) -> Record:
        """Return an image of its store; `label` is its class."""
        store = self.data.store
        return Record(
            id=f"{self.label}/{store.ids[row]}",
            split=SPLITS[store.splits[row]],
            label=label,
            image=store.image(row),
            valence=float(store.valence[row]),
            arousal=float(store.arousal[row]),
            landmarks=_values(store.landmarks, row),
            distribution=_values(self._distributions, row),
        )


class CombinedDataModule(StoreDataModule):
    """The images of several data sets, in their own splits; the classes are all of theirs.

    No image is there twice: of exact duplicates, and of near duplicates in two data sets, the one in the test split
    stays, else that in the validation split, and of these the one of the data set named first. So a test image of one
    data set is never a training image of another. (Near duplicates within a data set stay, and the audit counts them.)

    With `data.dedup=false` every duplicate stays in its own split, so that test images may be trained on.

    The id of an image is `<name of the data set>/<its id there>`.
    """

    source_hint = "data.parts"
    generated = True

    def __init__(self, *, parts: Sequence[Mapping[str, Any]] | None, **common: Any) -> None:
        """Store the options; `conf/data/combined.yaml` documents them.

        Args:
            parts: The data sets: their names and options.
            **common: Arguments of `StoreDataModule`.

        Raises:
            ConfigError: If there are none, or one is unknown or has an unknown option.
        """
        super().__init__(**common)
        if not parts:
            raise ConfigError(
                "data.parts is not set; data=combined expects a list of data sets. Set "
                "'data.parts=[{name: fer2013, path: ...}, {name: mmafedb, path: ...}]'."
            )
        names: Counter[str] = Counter()
        self._parts: list[Part] = []
        for options in parts:
            name = str(options.get("name"))
            names[name] += 1
            label = name if names[name] == 1 else f"{name}_{names[name]}"
            self._parts.append(self._part(name, label, options))
        # Images of the other parts have no target of it.
        second = [part.data.second_vocabulary for part in self._parts if part.data.second_vocabulary is not None]
        self.second_vocabulary = second[0] if second else None
        fetched = [one for part in self._parts if part.data.path is None for one in part.data.downloads]
        self.downloads = tuple(dict.fromkeys(fetched))
        self.derived = tuple(dict.fromkeys(name for part in self._parts for name in part.data.derived))

    def _part(self, name: str, label: str, options: Mapping[str, Any]) -> Part:
        if name == self.name:
            raise ConfigError(f"data.parts: {name} cannot be a part of itself; list its parts instead.")
        try:
            own = load_group("data", name)
            keys = {k: v for k, v in own.items() if k not in WHOLE_KEYS and not k.startswith("_")}
            for key, value in options.items():
                if key not in keys:
                    raise ConfigError(f"{key}={value} is no option of a part; expected {', '.join(keys)}.")
            keys |= options
            check_values({"data": keys}, RULES, CHOICES)
        except ConfigError as error:
            raise ConfigError(f"data.parts, {label}: {error}") from error
        whole: dict[str, Any] = {"data_dir": str(self.cache_dir.parent), "image_size": self.image_size}
        whole |= {"seed": self.seed, "face_cutter": self.face_cutter, "dedup": False}
        # Not instantiate: what to build is read from our own file, never from the options.
        return Part(label, get_class(own["_target_"])(**keys, **whole))

    @cached_property
    def _by_label(self) -> dict[str, StoreDataModule]:
        return {part.label: part.data for part in self._parts}

    @property
    def vocabulary(self) -> str:
        """That of the first part, if it has all classes, so that its evaluations find the model's."""
        first = self._parts[0].data
        return first.vocabulary if set(first.own_classes) == set(self.own_classes) else super().vocabulary

    def origins(self) -> list[str]:
        """Return the part that each image comes from, (N,)."""
        return [str(name).partition("/")[0] for name in self.store.ids]

    def clip_of(self, id: str) -> str:
        """Return the clip that an image of a part is a frame of, with the part's name."""
        label, _, own = id.partition("/")
        return f"{label}/{self._by_label[label].clip_of(own)}"

    def store_options(self) -> dict[str, Any]:
        """Return the stores of the parts and what is taken from them."""
        listed = self._candidates()
        chosen = hashlib.blake2b(np.stack((listed.part, listed.row, listed.label)).tobytes(), digest_size=16)
        parts = [(part.label, part.data.fingerprint, part.data.own_classes) for part in self._parts]
        return {"parts": parts, "chosen": chosen.hexdigest(), **({} if self.dedup else {"dedup": False})}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images of the parts, without duplicates.

        Raises:
            ConfigError: If one part has votes for its classes, another those of a second vocabulary.
        """
        self._check_votes()
        listed = self._candidates()
        exact, near = np.zeros((2, len(listed.row)), bool)
        if self.dedup:
            exact, near = find_duplicates([part.data.store for part in self._parts], listed)
        else:
            log.warning("data=%s: duplicates stay (data.dedup=false); test images may be trained on.", self.name)
        self._count(listed, exact, near)
        for part in self._parts:
            yield from (Skipped(f"{part.label}/{entry.id}", entry.reason) for entry in part.data.store.skipped)
        for i in np.flatnonzero(~(exact | near)):
            part = self._parts[listed.part[i]]
            yield part.record(int(listed.row[i]), part.data.own_classes[listed.label[i]])

    def _check_votes(self) -> None:
        """Refuse votes of two kinds: a store has one distribution an image."""
        for part in self._parts if self.second_vocabulary else ():
            if part.data.second_vocabulary != self.second_vocabulary and part.data.store.distribution is not None:
                raise ConfigError(
                    f"data.parts: {part.label} has votes for its classes, another part votes of a second vocabulary, "
                    "beside its labels; expected one kind. Leave one of them out, or take fer2013 for fer2013_votes."
                )

    def _candidates(self) -> Candidates:
        columns = []
        for index, part in enumerate(self._parts):
            for number, split in enumerate(SPLITS):
                rows, labels, _ = part.data.served_rows(split)
                columns.append((np.full_like(rows, index), rows, np.full_like(rows, number), labels))
        return Candidates(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def _count(self, listed: Candidates, exact: NDArray[np.bool_], near: NDArray[np.bool_]) -> None:
        """Say what is left out, per part and split."""
        self.left_out.clear()
        for index, part in enumerate(self._parts):
            store = part.data.store
            self.left_out.update({f"{part.label}: {reason}": n for reason, n in store.left_out.items()})
            for number, split in enumerate(SPLITS):
                here = (listed.part == index) & (listed.split == number)
                reasons = {
                    "by its classes or exclude": len(store.rows(split)) - int(here.sum()),
                    "an exact duplicate stays": int((here & exact).sum()),
                    "a near duplicate of another data set stays": int((here & near).sum()),
                }
                self.left_out.update({f"{part.label}, {split}: {why}": n for why, n in reasons.items() if n})


def _values(column: NDArray[np.float32] | None, row: int) -> NDArray[np.float32] | None:
    """Return an image's entry of a column that may be missing."""
    return None if column is None or np.isnan(column[row]).all() else column[row]
