"""The base of every data set: store, loaders, transforms, de-duplication and seeds, once."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from rich.progress import track
from torch.utils.data import BatchSampler, DataLoader

from src.data.class_selection import ClassSelection
from src.data.dataset import Batch, StoreDataset, identity
from src.data.dedup import clean_rows, training_rows
from src.data.exclusion import excluded_rows
from src.data.feature_dataset import FeatureDataset
from src.data.feature_store import VIEWS, FeatureStore, View
from src.data.fingerprint import source_fingerprint
from src.data.halves import Half, in_half
from src.data.sampling import EpochSampler, balanced_weights
from src.data.store import PackedStore, Record, Skipped, Split, write_store
from src.data.transforms import BatchMix, PictureTransform, TransformConfig
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


class StoreDataModule(LightningDataModule, ABC):
    """Serves a data set from its packed store.

    A subclass states its `classes` (canonical order; empty if they depend on the source) and its `source_hint`, and
    yields its pictures in `records()`, each with its split; `generated` says that it needs no source, `shows_people`
    that its pictures are private. With a `second_vocabulary`, a name and its classes, the records' distributions are
    over it instead of being the target. `derived` names outputs whose targets nobody annotated.

    Attributes:
        name: Name of the data set.
        left_out: Reason -> number of readable pictures that `records()` leaves out by it; the store remembers them.
        features: What to serve instead of pictures, in splits for which it is complete; None for pictures.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    source_hint: ClassVar[str]
    generated: ClassVar[bool] = False
    shows_people: ClassVar[bool] = True
    second_vocabulary: ClassVar[tuple[str, tuple[str, ...]] | None] = None
    derived: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        name: str,
        path: str | None,
        data_dir: str,
        image_size: int,
        transform: dict[str, Any],
        seed: int,
        batch_size: int = 64,
        num_workers: int = 0,
        grayscale: bool = False,
        sampler: str = "shuffle",
        dedup: bool = True,
        max_bad: float = 0.01,
        classes: Sequence[str] | None = None,
        merge: Mapping[str, Sequence[str]] | None = None,
        exclude: str | Sequence[str] | None = None,
        half: Half | None = None,
        half_seed: int = 0,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Store the options; `conf/data/default.yaml` documents them.

        Args:
            name: Name of the data set.
            path: Where its source lies; None for generated data.
            data_dir: Folder for the packed stores.
            image_size: Side of the pictures served.
            transform: Keys of `TransformConfig`, for training pictures.
            seed: The run's seed.
            batch_size: Pictures a batch and process.
            num_workers: Loader processes.
            grayscale: Whether to remove colours.
            sampler: `shuffle` or `balanced`.
            dedup: Whether to remove copies from the training split.
            max_bad: Largest accepted share of unreadable pictures.
            classes: Classes to keep, after merging; None for all.
            merge: Name of a class -> names of the classes that it joins.
            exclude: Data sets whose pictures are left out.
            half: `first` or `second` half of the training split; None for all of it.
            half_seed: Seed of the halves.
            class_names: Classes of the model that will see the pictures; None for the data set's own.
        """
        super().__init__()
        self.name, self.path, self.cache_dir = name, path, Path(data_dir) / "cache"
        self.image_size, self.grayscale, self.batch_size = image_size, grayscale, batch_size
        self.num_workers, self.seed, self.sampler, self.dedup = num_workers, seed, sampler, dedup
        self.max_bad, self._kept_classes, self._merge = max_bad, classes, merge
        self._exclude = [exclude] if isinstance(exclude, str) else list(exclude or ())
        if half not in (None, *get_args(Half)):
            raise ConfigError(f"data.half={half}; expected null, first or second. Set data.half=... accordingly.")
        self._half, self._half_seed = half, half_seed
        self.left_out: Counter[str] = Counter()
        self.transform = TransformConfig.from_keys(transform)
        self._model_classes = tuple(class_names or ())
        self._store: PackedStore | None = None
        self.features: FeatureStore | None = None

    @abstractmethod
    def records(self) -> Iterator[Record | Skipped]:
        """Yield every picture of the data set, or the reason why one cannot be read."""

    def store_options(self) -> dict[str, Any]:
        """Return the options, beside the source, that determine the store's content."""
        return {}

    def source(self) -> Path:
        """Return `data.path`.

        Raises:
            ConfigError: If it is not set or does not exist.
        """
        if not self.path:
            raise ConfigError(f"data.path is not set; data={self.name} expects {self.source_hint}. Set data.path=...")
        path = Path(self.path).expanduser()
        if not path.exists():
            raise ConfigError(f"data.path={self.path} does not exist; data={self.name} expects {self.source_hint}.")
        return path

    def prepare_data(self) -> None:
        """Build the store unless it exists, and say what is not served."""
        self.selection.report(self.store)
        self._excluded  # noqa: B018  # searched for and reported at first use

    def setup(self, stage: str | None = None) -> None:
        """Set OpenCV up."""
        # It would start a thread per core in every loader process, for pictures too small to share out.
        cv2.setNumThreads(0)

    @property
    def store(self) -> PackedStore:
        """The pictures; the store is built at first use."""
        if self._store is None:
            self._store = self._open()
        return self._store

    def _open(self) -> PackedStore:
        source = None if self.generated else self.source()
        options = {"name": self.name, **self.store_options()}
        fingerprint = source_fingerprint(source, options, self.cache_dir / "sources.json")
        folder = self.cache_dir / f"{self.name}-{fingerprint}"
        log.info("Data: %s", folder.name)
        if folder.exists():
            return PackedStore(folder)
        entries = track(self.records(), description=f"Preparing {self.name}")
        store = write_store(folder, entries, self.max_bad, self.left_out)
        for entry in store.skipped:
            log.warning("%s: skipped %s: %s", self.name, entry.id, entry.reason)
        for reason, n in store.left_out.items():
            log.info("data=%s: left out %s pictures: %s", self.name, f"{n:,}", reason)
        return store

    @property
    def fingerprint(self) -> str:
        """Name of the store: data set and content hash."""
        return self.store.path.name

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

    def serve_classes(self, class_names: Sequence[str]) -> None:
        """Serve labels in the order of a model's classes; before anything is served."""
        self._model_classes = tuple(class_names)

    @property
    def vocabulary(self) -> str:
        """Name of the classes of the labels."""
        return str(self.name)

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """All classifications that the pictures are labelled for, by name; empty if the labels are the only one."""
        if self.second_vocabulary is None:
            return {}
        return {self.vocabulary: self.class_names, self.second_vocabulary[0]: self.second_vocabulary[1]}

    @cached_property
    def mix(self) -> BatchMix:
        """MixUp and CutMix of training batches."""
        return BatchMix(self.transform, len(self.class_names))

    @property
    def absent_classes(self) -> list[int]:
        """Indices of the model's classes that the data set lacks."""
        return [i for i, name in enumerate(self.class_names) if name not in self.own_classes]

    def split_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return what a split serves.

        Returns:
            Rows of the store (N,), their class indices (N,), and how many pictures were left out because the model,
            or `data.classes`, lacks their class.

        Raises:
            ConfigError: If nothing is left.
        """
        rows, labels, left_out = self.served_rows(split)
        if len(rows) == 0:
            raise ConfigError(
                f"data={self.name} has no {split} picture of the classes {', '.join(self.class_names)} to serve; check "
                "data.path, data.classes and data.exclude, or use a model with the classes of the data."
            )
        return rows, labels, left_out

    def served_rows(self, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return the same for a split that may be empty."""
        store = self.store
        rows = training_rows(store) if split == "train" and self.dedup else store.rows(split)
        rows = rows[~self._excluded[rows]]
        labels = self.selection.index(store.class_names, self.class_names)[store.labels[rows]]
        known = labels >= 0
        rows, labels, n_unknown = rows[known], labels[known], int((~known).sum())
        if split == "train" and self._half is not None:
            kept = in_half(store.digests[rows], labels, self._half, self._half_seed)
            rows, labels = rows[kept], labels[kept]
        return rows, labels, n_unknown

    def clean_rows(self, split: Split) -> NDArray[np.int64]:
        """Return the store's rows of a split that have no copy in the others, one per group of copies."""
        return clean_rows(self.store, split)

    def class_counts(self, split: Split) -> NDArray[np.int64]:
        """Return the number of pictures per class that a split serves, (n_classes,)."""
        return np.bincount(self.split_rows(split)[1], minlength=len(self.class_names))

    @property
    def has_valence_arousal(self) -> bool:
        """Whether any training picture has valence and arousal."""
        return not bool(np.isnan(self.store.valence[self.store.rows("train")]).all())

    @property
    def has_landmarks(self) -> bool:
        """Whether any training picture has landmarks."""
        points = self.store.landmarks
        return points is not None and not bool(np.isnan(points[self.store.rows("train")]).all())

    def _dataset(self, split: Split) -> StoreDataset:
        rows, labels, _ = self.split_rows(split)
        transform = PictureTransform(self.transform, self.seed) if split == "train" else None
        targets, second = None, None
        if self.second_vocabulary is not None and self.store.distribution is not None:
            second = self.store.distribution[rows]
        elif self.store.distribution is not None:
            targets = self.selection.targets(self.store.distribution[rows], self.class_names, labels)
        served: dict[str, Any] = {
            **{"store": self.store, "rows": rows, "labels": labels, "image_size": self.image_size},
            **{"grayscale": self.grayscale, "transform": transform, "targets": targets, "second_targets": second},
        }
        features = self.features
        if features and all(len(features.missing(rows, view)) == 0 for view in self.views(split)):
            return FeatureDataset(features, **served)
        return StoreDataset(**served)

    def views(self, split: Split) -> tuple[View, ...]:
        """Return the views of its pictures that a split may serve, if nothing but mirroring happens to them."""
        return VIEWS if split == "train" and self.transform.horizontal_flip else VIEWS[:1]

    def plain_pictures(self, rows: NDArray[np.int64]) -> Batch:
        """Return pictures as a model sees them: unchanged, float in [0, 1]; labels are 0."""
        dataset = StoreDataset(self.store, rows, np.zeros_like(rows), self.image_size, self.grayscale)
        return self.on_after_batch_transfer(dataset.__getitems__(list(range(len(rows)))), 0)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training loader; a last batch of one, on which batch-norm cannot train, is dropped."""
        dataset = self._dataset("train")
        batches = self._training_batches(dataset.labels)
        cast(EpochSampler, batches.sampler).set_epoch(self._epochs_done())
        return self._loader(dataset, batches)

    def _training_batches(self, labels: NDArray[np.int64]) -> BatchSampler:
        weights = balanced_weights(labels) if self.sampler == "balanced" else None
        sampler = EpochSampler(len(labels), self.seed, weights, *self._process())
        return _batch_sampler(sampler, self.batch_size, drop_last=len(sampler) % self.batch_size == 1)

    def _process(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def steps_per_epoch(self) -> int:
        """Return the optimiser steps of an epoch, given the trainer's limits.

        Lightning's `estimated_stepping_batches` would make the first iterator before a resumed run knows its epoch.
        """
        n_batches = len(self._training_batches(self.split_rows("train")[1]))
        trainer = self.trainer
        if trainer is None:
            return n_batches
        limit = trainer.limit_train_batches
        if isinstance(limit, float):
            n_batches = int(n_batches * limit)
        elif limit is not None:
            n_batches = min(n_batches, limit)
        return max(1, -(-n_batches // trainer.accumulate_grad_batches))

    def _epochs_done(self) -> int:
        """Return the number of epochs behind the optimiser, which a resumed run knows before Lightning says."""
        return self.trainer.global_step // self.steps_per_epoch() if self.trainer else 0

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation loader, in the store's order."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test loader, in the store's order."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        dataset = self._dataset(split)
        rank, world_size = self._process()
        # Each process takes every n-th picture: none is served twice, so the metrics count each one once.
        indices = range(rank, len(dataset), world_size)
        return self._loader(dataset, _batch_sampler(indices, self.batch_size))

    def _loader(self, dataset: StoreDataset, batches: BatchSampler) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=identity,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=_single_threaded,
            # An iterator draws its base seed: from its own generator, or it would move the global one.
            generator=torch.Generator(),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn pictures into floats in [0, 1], channels last, and mix training batches; features stay as they are."""
        if "image" not in batch:
            return batch
        image = batch["image"].to(torch.float32, memory_format=torch.channels_last) / 255
        batch = Batch(**{**batch, "image": image})
        if self.trainer is not None and self.trainer.training and self.mix:
            target = batch.get("target", batch["label"])
            batch["image"], mixed = self.mix(image, target)
            if mixed is not target:
                batch["target"], batch["label"] = mixed, mixed.argmax(dim=1)
        return batch


def _batch_sampler(keys: Iterable[Any], batch_size: int, drop_last: bool = False) -> BatchSampler:
    """Group keys of any kind; torch's annotation knows integers only."""
    return BatchSampler(keys, batch_size, drop_last)


def _single_threaded(worker_id: int) -> None:
    cv2.setNumThreads(0)
