"""The images of a data set with their classes, and which of them a split serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from src.data.datasets.packed_images import PackedImages
from src.data.options import Half
from src.data.readers.frames import FaceCutter
from src.data.selection.classes import ClassSelection
from src.data.selection.exact_duplicates import clean_rows, training_rows
from src.data.selection.exclusion import excluded_rows
from src.data.selection.halves import in_half
from src.data.selection.limit import within_limit
from src.data.store.packed_store import Split
from src.utils.errors import ConfigError


class LabeledImages(PackedImages):
    """Says which images of a data set, with which labels, each split serves.

    A subclass states its `classes` (canonical order; empty if they depend on the source), beside what `PackedImages`
    wants. `shows_people` says that its images are private. With a `second_vocabulary`, a name and its classes, the
    records' distributions are over it instead of being the target. `derived` names outputs whose targets nobody
    annotated.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    shows_people: ClassVar[bool] = True
    second_vocabulary: tuple[str, tuple[str, ...]] | None = None
    derived: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        path: str | None,
        data_dir: str,
        dedup: bool = True,
        max_bad: float = 0.01,
        classes: Sequence[str] | None = None,
        merge: Mapping[str, Sequence[str]] | None = None,
        exclude: str | Sequence[str] | None = None,
        half: Half | None = None,
        half_seed: int = 0,
        max_per_class: int | None = None,
        landmarks_path: str | None = None,
        class_names: Sequence[str] | None = None,
        face_cutter: FaceCutter | None = None,
    ) -> None:
        """Store the options; `conf/data/default.yaml` documents them.

        Args:
            name: Name of the data set.
            path: Where its source lies; None for generated data.
            data_dir: Folder for the packed stores.
            dedup: Whether to remove duplicates from the training split.
            max_bad: Largest accepted fraction of unreadable images.
            classes: Classes to keep, after merging; None for all.
            merge: Name of a class -> names of the classes that it joins.
            exclude: Data sets whose images are left out.
            half: `first` or `second` half of the training split; None for all of it.
            half_seed: Seed of the halves.
            max_per_class: Training images of a class at most; None for all.
            landmarks_path: File of the images' landmarks, see `src.data.readers.landmark_file`; None for those, if any,
                that the data set has.
            class_names: Classes of the model that will see the images; None for the data set's own.
            face_cutter: Cuts faces out of scenes; None if there is nothing that does.
        """
        super().__init__(name, path, data_dir, max_bad, landmarks_path, face_cutter)
        self.dedup, self._kept_classes, self._merge = dedup, classes, merge
        self._exclude = [exclude] if isinstance(exclude, str) else list(exclude or ())
        self._half, self._half_seed, self._max_per_class = half, half_seed, max_per_class
        self._model_classes = tuple(class_names or ())

    @property
    def trained_on(self) -> str:
        """The fingerprint, and which half of the training split is served, if not all of it."""
        return self.fingerprint + (f", {self._half} half (seed {self._half_seed})" if self._half else "")

    @property
    def source_classes(self) -> tuple[str, ...]:
        """Classes of the data set as it is, in canonical order."""
        return self.classes or self.store.class_names

    @cached_property
    def selection(self) -> ClassSelection:
        """What `data.merge` and `data.classes` make of these classes."""
        return ClassSelection(self.source_classes, self._kept_classes, self._merge)

    @property
    def own_classes(self) -> tuple[str, ...]:
        """Classes that the data set serves: in canonical order, then those with new names."""
        return self.selection.names

    @cached_property
    def _excluded(self) -> NDArray[np.bool_]:
        return excluded_rows(self.store, self._exclude, self.cache_dir)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the order of the labels served: the model's, or the data set's own."""
        return self._model_classes or self.own_classes

    def with_classes(self, class_names: Sequence[str]) -> Self:
        """Return the same data set with labels in the order of a model's classes."""
        changed = copy(self)
        changed._model_classes = tuple(class_names)
        return changed

    @property
    def vocabulary(self) -> str:
        """Name of the classes of the labels."""
        return str(self.name)

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """All classifications that the images are labeled for, by name; empty if the labels are the only one."""
        if self.second_vocabulary is None:
            return {}
        return {self.vocabulary: self.class_names, self.second_vocabulary[0]: self.second_vocabulary[1]}

    @property
    def absent_classes(self) -> list[int]:
        """Indices of the model's classes that the data set lacks."""
        return [i for i, name in enumerate(self.class_names) if name not in self.own_classes]

    def split_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return what a split serves.

        Returns:
            Rows of the store (N,), their class indices (N,), and how many images were left out because the model,
            or `data.classes`, lacks their class.

        Raises:
            ConfigError: If nothing is left.
        """
        rows, labels, left_out = self.served_rows(split)
        if len(rows) == 0:
            raise ConfigError(
                f"data={self.name} has no {split} image of the classes {', '.join(self.class_names)} to serve; check "
                "data.path, data.classes and data.exclude, or use a model with the classes of the data."
            )
        return rows, labels, left_out

    def loaded_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what the loaders of a split serve: what `split_rows` does, and images without a label.

        These have nothing but valence and arousal, for models that predict them.

        Returns:
            Rows of the store (N,), in its order, and their class indices (N,), -1 for those without a label.

        Raises:
            ConfigError: If nothing is left.
        """
        store, rows = self.store, self._kept_rows(split)
        rows = rows[store.labels[rows] < 0]
        if split == "train" and self._half is not None:
            rows = rows[in_half(store.digests[rows], store.labels[rows], self._half, self._half_seed)]
        labeled, labels, _ = self.served_rows(split) if len(rows) else self.split_rows(split)
        rows, labels = np.concatenate((labeled, rows)), np.concatenate((labels, np.full(len(rows), -1)))
        order = np.argsort(rows)
        return rows[order], labels[order]

    def served_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return the same for a split that may be empty."""
        store, rows = self.store, self._kept_rows(split)
        rows = rows[store.labels[rows] >= 0]
        labels = self.selection.index(store.class_names, self.class_names)[store.labels[rows]]
        known = labels >= 0
        rows, labels, n_unknown = rows[known], labels[known], int((~known).sum())
        if split == "train" and self._half is not None:
            kept = in_half(store.digests[rows], labels, self._half, self._half_seed)
            rows, labels = rows[kept], labels[kept]
        if split == "train" and self._max_per_class is not None:
            kept = within_limit(store.digests[rows], labels, self._max_per_class, self._half_seed)
            rows, labels = rows[kept], labels[kept]
        return rows, labels, n_unknown

    def _kept_rows(self, split: Split) -> NDArray[np.int64]:
        """Return the rows of a split, labeled or not, without duplicates that are left out and `data.exclude`."""
        rows = training_rows(self.store) if split == "train" and self.dedup else self.store.rows(split)
        return rows[~self._excluded[rows]]

    def clean_rows(self, split: Split) -> NDArray[np.int64]:
        """Return the store's rows of a split that have no duplicate in the others, one per group of duplicates."""
        return clean_rows(self.store, split)

    def class_counts(self, split: Split) -> NDArray[np.int64]:
        """Return the number of images per class that a split serves, (n_classes,)."""
        return np.bincount(self.split_rows(split)[1], minlength=len(self.class_names))

    @property
    def has_valence_arousal(self) -> bool:
        """Whether any training image has valence and arousal."""
        return not bool(np.isnan(self.store.valence[self.store.rows("train")]).all())

    @property
    def has_landmarks(self) -> bool:
        """Whether any training image has landmarks."""
        points = self.store.landmarks
        return points is not None and not bool(np.isnan(points[self.store.rows("train")]).all())
