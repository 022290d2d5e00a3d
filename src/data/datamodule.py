"""The base of every data set's module: loaders, transforms and seeds, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import Any, Self, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from src.data.dataset import Batch, StoreDataset, identity, single_threaded
from src.data.datasets.labeled_images import LabeledImages
from src.data.sampling import EpochSampler, balanced_weights
from src.data.shared_memory import check_shared_memory
from src.data.store.feature_dataset import FeatureDataset
from src.data.store.feature_store import VIEWS, FeatureStore, View
from src.data.store.packed_store import Split
from src.data.transforms import BatchMix, ImageTransform, TransformConfig

# Size of the images that our backbones see.
IMAGE_SIZE = 64


class StoreDataModule(LabeledImages, LightningDataModule):
    """Serves a data set in batches; a subclass states what `LabeledImages` asks for."""

    def __init__(
        self,
        name: str,
        path: str | None,
        data_dir: str,
        image_size: int | None = None,
        transform: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
        grayscale: bool = False,
        sampler: str = "shuffle",
        **images: Any,
    ) -> None:
        """Store the options; `conf/data/default.yaml` documents them.

        Args:
            name: Name of the data set.
            path: Where its source lies; None for generated data.
            data_dir: Folder for the packed stores.
            image_size: Size of the images served, in pixels; None for that of our backbones.
            transform: Keys of `TransformConfig`, for training images; None to leave them as they are.
            seed: The run's seed.
            batch_size: Images a batch and process.
            num_workers: Loader processes.
            grayscale: Whether to remove colors.
            sampler: `shuffle` or `balanced`.
            **images: Further arguments of `LabeledImages`.
        """
        super().__init__(name, path, data_dir, **images)
        self.image_size, self.grayscale, self.batch_size = image_size or IMAGE_SIZE, grayscale, batch_size
        self.num_workers, self.seed, self.sampler = num_workers, seed, sampler
        self.transform = TransformConfig.from_keys(transform or {"name": "none"})
        self._features: FeatureStore | None = None

    def with_grayscale(self, grayscale: bool) -> Self:
        """Return the same data set with or without colors, as a model expects them."""
        changed = copy(self)
        changed.grayscale = grayscale
        return changed

    def with_features(self, features: FeatureStore) -> Self:
        """Return the same data set with features instead of images, in splits for which they are complete."""
        changed = copy(self)
        changed._features = features
        return changed

    def prepare_data(self) -> None:
        """Build the store unless it exists, and say what is not served."""
        self.selection.report(self.store)
        self._excluded  # noqa: B018  # searched for and reported at first use

    def setup(self, stage: str | None = None) -> None:
        """Set OpenCV up."""
        # It would start a thread per core in every loader process, for images too small to share out.
        cv2.setNumThreads(0)

    @cached_property
    def mix(self) -> BatchMix:
        """MixUp and CutMix of training batches."""
        return BatchMix(self.transform)

    def _dataset(self, split: Split) -> StoreDataset:
        rows, labels = self.loaded_rows(split)
        transform = ImageTransform(self.transform, self.seed) if split == "train" else None
        targets, second = None, None
        if self.second_vocabulary is not None and self.store.distribution is not None:
            second = self.store.distribution[rows]
        elif self.store.distribution is not None:
            targets = self.selection.targets(self.store.distribution[rows], self.class_names, labels)
        served: dict[str, Any] = {
            **{"store": self.store, "rows": rows, "labels": labels, "image_size": self.image_size},
            **{"grayscale": self.grayscale, "transform": transform, "targets": targets, "second_targets": second},
        }
        features = self._features
        if features and all(len(features.missing(rows, view)) == 0 for view in self.views(split)):
            return FeatureDataset(features, **served)
        return StoreDataset(**served)

    def views(self, split: Split) -> tuple[View, ...]:
        """Return the views of its images that a split may serve, if nothing but mirroring happens to them."""
        return VIEWS if split == "train" and self.transform.horizontal_flip else VIEWS[:1]

    def plain_images(self, rows: NDArray[np.int64]) -> Batch:
        """Return images as a model sees them: unchanged, float in [0, 1]; labels are 0."""
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
        # Lightning would leave the batches of its own samplers in one order.
        overfit = bool(getattr(self.trainer, "overfit_batches", 0))  # set without a type
        sampler = EpochSampler(len(labels), self.seed, weights, *self._process(), repeat=overfit)
        return _batch_sampler(sampler, self.batch_size, drop_last=len(sampler) % self.batch_size == 1)

    def _process(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of an epoch, given the trainer's limits.

        Lightning's `estimated_stepping_batches` would make the first iterator before a resumed run knows its epoch.
        """
        n_batches = len(self._training_batches(self.loaded_rows("train")[1]))
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
        """Return the number of epochs behind the optimizer, which a resumed run knows before Lightning says."""
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
        # Each process takes every n-th image: none is served twice, so the metrics count each one once.
        indices = range(rank, len(dataset), world_size)
        return self._loader(dataset, _batch_sampler(indices, self.batch_size))

    def _loader(self, dataset: StoreDataset, batches: BatchSampler) -> DataLoader[Batch]:
        check_shared_memory(self.num_workers, self.batch_size * 3 * self.image_size**2)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=identity,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=single_threaded,
            # An iterator draws its base seed: from its own generator, or it would move the global one.
            generator=torch.Generator(),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn images into floats in [0, 1], channels last, and mix training batches; features stay as they are."""
        double = self.trainer is not None and self.trainer.precision == "64-true"
        if double:  # targets must be as precise as what is compared with them
            tensors = cast(dict[str, Tensor], batch)
            batch = cast(Batch, {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()})
        if "image" not in batch:
            return batch
        dtype = torch.float64 if double else torch.float32
        image = batch["image"].to(dtype, memory_format=torch.channels_last) / 255
        batch = Batch(**{**batch, "image": image})
        if self.trainer is not None and self.trainer.training and self.mix:
            self._mix_with_targets(batch)
        return batch

    def _mix_with_targets(self, batch: Batch) -> None:
        """Mix images, and what is known of them in the same proportions: what half of a mixture lacks, it lacks.

        Landmarks, which have no mean, are those of the image with the larger fraction.
        """
        own = batch.get("target", F.one_hot(batch["label"].clamp_min(0), len(self.class_names)))
        if "labeled" in batch:
            own = own.float().masked_fill(~batch["labeled"][:, None], torch.nan)
        parts = {"target": own, "valence": batch["valence"][:, None], "arousal": batch["arousal"][:, None]}
        if "second_target" in batch:
            parts["second_target"] = batch["second_target"]
        targets = torch.cat([part.float() for part in parts.values()], dim=1)
        batch["image"], mixed, fraction = self.mix(batch["image"], targets)
        if fraction is None:
            return
        if "landmarks" in batch:
            own = batch["landmarks"]
            batch["landmarks"] = torch.where(fraction < 0.5, own.roll(1, 0), own)
        values = dict(zip(parts, mixed.split([part.shape[1] for part in parts.values()], dim=1), strict=True))
        values.update({name: values[name].squeeze(1) for name in ("valence", "arousal")})
        batch.update(cast(Batch, {**values, "label": values["target"].argmax(dim=1)}))
        if "labeled" in batch:
            batch["labeled"] = ~values["target"].isnan().any(dim=1)


def _batch_sampler(keys: Iterable[Any], batch_size: int, drop_last: bool = False) -> BatchSampler:
    """Group keys of any kind; torch's annotation knows integers only."""
    return BatchSampler(keys, batch_size, drop_last)
