"""Which classes of a data set are served: some kept, some joined; the store has them all."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from src.data.store.packed_store import SPLITS, PackedStore
from src.data.vocabulary import CANONICAL, canonical_name, index_map
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


class ClassSelection:
    """The effect of `data.merge`, and then of `data.classes`, on the classes of a data set.

    Classes are served in canonical order, followed by those with new names in the order of `data.merge`.
    """

    def __init__(
        self, source: Sequence[str], classes: Sequence[str] | None, merge: Mapping[str, Sequence[str]] | None
    ) -> None:
        """Check the options against the data.

        Args:
            source: Classes of the data set, canonical names.
            classes: Names of the classes to keep, after merging; None for all.
            merge: Name of a class -> names of the classes that it joins, beside those that have its name already.

        Raises:
            ConfigError: If a name is unknown, listed twice, or no name.
        """
        self._served = _merged(source, merge or {})
        names = [*CANONICAL, *(_new_name(name) for name in merge or {})]
        present = set(self._served.values())
        self.names = tuple(name for name in dict.fromkeys(names) if name in present)
        if classes is not None:
            kept = {_known(name, self.names, f"data.classes={list(classes)}") for name in classes}
            if not kept:
                raise ConfigError(f"data.classes=[] keeps nothing; expected some of {', '.join(self.names)}, or null.")
            self.names = tuple(name for name in self.names if name in kept)

    def index(self, source: Sequence[str], target: Sequence[str]) -> NDArray[np.int64]:
        """Return, for each class of `source`, its index in `target`, or -1 where it is not served or not there."""
        served = [self._served.get(name, name) for name in source]
        return index_map([name if name in self.names else "" for name in served], target)

    def report(self, store: PackedStore) -> None:
        """Log how many images of a store are not served."""
        kept = self.index(store.class_names, self.names) >= 0
        for split in SPLITS:
            labels = store.labels[store.rows(split)]
            dropped = int((~kept[labels[labels >= 0]]).sum())
            if dropped:
                log.info("data.classes: left out %s %s images of other classes", f"{dropped:,}", split)

    def targets(
        self, distribution: NDArray[np.float32], target: Sequence[str], labels: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return probabilities of the classes in `target`.

        Args:
            distribution: Probabilities of the canonical classes, (N, 8), NaN where unknown.
            target: Names of n classes.
            labels: Indices of the classes that are certain where there are no probabilities, (N,).

        Returns:
            (N, n), renormalized; where the distribution is unknown or has none of the classes, NaN without `labels`.
        """
        index = self.index(CANONICAL, target)
        joined = np.zeros((len(distribution), len(target)), np.float32)
        for column in np.flatnonzero(index >= 0):
            joined[:, index[column]] += distribution[:, column]
        total = joined.sum(axis=1, keepdims=True)
        fallback = np.full_like(joined, np.nan) if labels is None else np.eye(len(target), dtype=np.float32)[labels]
        renormalized: NDArray[np.float32] = np.divide(joined, total, out=fallback, where=total > 0)
        return renormalized


def _merged(source: Sequence[str], merge: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the name under which each class of the data is served."""
    served = {name: name for name in source}
    for new, old in merge.items():
        option = f"data.merge={{{new}: {list(old)}}}"
        for name in old:
            known = _known(name, source, option)
            if served[known] not in (known, _new_name(new)):
                raise ConfigError(f"{option}: {name} joins {served[known]} already; name each class once.")
            served[known] = _new_name(new)
    return served


def _new_name(name: str) -> str:
    """Return the name of a merged class: a canonical one, or a new one in small letters."""
    try:
        return canonical_name(name)
    except ConfigError:
        if re.fullmatch(r"[a-z][a-z0-9_]*", name):
            return name
        raise ConfigError(
            f"data.merge: {name!r} cannot name a class; expected a known expression, or a new name of small letters, "
            "digits and underscores, such as negative."
        ) from None


def _known(name: str, present: Sequence[str], option: str) -> str:
    """Return the name of a class that the data has."""
    try:
        known = canonical_name(name)
    except ConfigError:
        known = name
    if known not in present:
        raise ConfigError(f"{option}: the data has no class {name!r}; it has {', '.join(present)}. Name some of these.")
    return known
