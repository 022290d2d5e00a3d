"""Images of a store as batches of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from src.data.readers.images import fit
from src.data.store.packed_store import PackedStore

if TYPE_CHECKING:
    # Spawned loader processes that do not augment start in half the time without it.
    from src.data.transforms import ImageTransform


class Inputs(TypedDict, total=False):
    """What a model sees of B images.

    Attributes:
        image: RGB, (B, 3, S, S): uint8 from the data set, float in [0, 1] once the data module has moved it; absent
            where features are served.
        features: What a frozen backbone makes of the images at the head's tap, in half precision, (B, C, H, W) or
            (B, C); absent where images are served.
        landmarks: x and y of the 68 iBUG points in pixels of `image`, 0 being the center of the first one,
            (B, 68, 2), NaN where missing; absent without `image` and if the store has none. They follow the
            augmentation of an image and may lie outside it. In a mixture they are those of the larger part.
    """

    image: Tensor
    features: Tensor
    landmarks: Tensor


class Batch(Inputs):
    """B images, or their features, with what is known of them.

    Attributes:
        label: Class indices (B,); -1 where there is none.
        valence: (B,), NaN where not annotated: the NaNs are the mask, which losses and metrics leave out. Mixed, as
            targets are, where images are.
        arousal: (B,), NaN where not annotated.
        row: Row in the store, (B,).
        labeled: Whether an image has a label, (B,); absent if all images of the split have one.
        target: What training fits instead of the label, class probabilities (B, n_classes), of the votes of several
            people or mixed; absent if the store has none and nothing is mixed.
        second_target: Class probabilities of a data set's second vocabulary, (B, n_second), NaN where an image has
            none; absent if the data set has no second vocabulary.
    """

    label: Tensor
    valence: Tensor
    arousal: Tensor
    row: Tensor
    labeled: NotRequired[Tensor]
    target: NotRequired[Tensor]
    second_target: NotRequired[Tensor]


class StoreDataset(Dataset[Batch]):
    """Some rows of a store, resized; training rows are augmented. Items are read a batch at a time."""

    def __init__(
        self,
        store: PackedStore,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        image_size: int,
        grayscale: bool,
        transform: ImageTransform | None = None,
        targets: NDArray[np.float32] | None = None,
        second_targets: NDArray[np.float32] | None = None,
    ) -> None:
        """Create the data set.

        Args:
            store: The images.
            rows: Rows to serve, (N,).
            labels: Their class indices in the model's order, (N,); -1 where there is none.
            image_size: Size of the images served, in pixels.
            grayscale: Whether to remove colors; the images keep three equal channels.
            transform: Augmentation; with it, indices are (index, epoch) pairs.
            targets: Class probabilities in the model's order, (N, n_classes), if there are any.
            second_targets: Class probabilities of the second vocabulary, (N, n_second), if there is one.
        """
        self.store, self.rows, self.labels = store, rows, labels
        self.image_size, self.grayscale, self.transform = image_size, grayscale, transform
        self.targets, self.second_targets = targets, second_targets
        self.has_unlabeled = bool((labels < 0).any())

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        """Return a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: list[int] | list[tuple[int, int]] | list[int | tuple[int, int]]) -> Batch:
        """Return a batch; a key is an index, or (index, epoch)."""
        pairs = [key if isinstance(key, tuple) else (key, 0) for key in keys]
        index = np.array([i for i, _ in pairs])
        rows = self.rows[index]
        known = {
            "label": torch.from_numpy(self.labels[index]),
            "valence": torch.from_numpy(self.store.valence[rows]),
            "arousal": torch.from_numpy(self.store.arousal[rows]),
            "row": torch.from_numpy(rows),
        }
        batch = cast(Batch, {**self._inputs(rows, pairs), **known})
        if self.has_unlabeled:
            batch["labeled"] = batch["label"] >= 0
        if self.targets is not None:
            batch["target"] = torch.from_numpy(self.targets[index])
        if self.second_targets is not None:
            batch["second_target"] = torch.from_numpy(self.second_targets[index])
        return batch

    def _inputs(self, rows: NDArray[np.int64], pairs: list[tuple[int, int]]) -> Inputs:
        """Return the images of rows, with their landmarks; pairs are (index, epoch)."""
        self.store.prefetch(rows)
        images = [self._resized(row) for row in rows]
        if self.transform is not None or not (self.grayscale or self.store.is_gray):
            images = [_rgb(image) for image in images]
        landmarks = self._landmarks(rows)
        if self.transform is not None:
            images, landmarks = _augmented(self.transform, images, landmarks, pairs)
        inputs = Inputs(image=_channels_first(np.stack(images)))
        if landmarks is not None:
            inputs["landmarks"] = torch.from_numpy(landmarks)
        return inputs

    def _landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the landmarks in pixels of the resized images, (B, 68, 2), or None if the store has none."""
        if self.store.landmarks is None:
            return None
        sizes = np.array([self.store.image(row).shape[1::-1] for row in rows], dtype=np.float32)
        # As in OpenCV, the edges of the image stay the edges: the center of the first pixel moves.
        scale = self.image_size / sizes[:, None]
        return np.asarray((self.store.landmarks[rows] + 0.5) * scale - 0.5, dtype=np.float32)

    def _resized(self, row: int) -> NDArray[np.uint8]:
        """Return one image at the size served, (S, S) or (S, S, 3)."""
        image = self.store.image(row)
        if self.grayscale and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return fit(image, self.image_size)


def _augmented(
    transform: ImageTransform,
    images: list[NDArray[np.uint8]],
    landmarks: NDArray[np.float32] | None,
    pairs: list[tuple[int, int]],
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32] | None]:
    """Augment images, with their landmarks (B, 68, 2) if they have any; pairs are (index, epoch)."""
    if landmarks is None:
        return [transform(image, epoch, i) for image, (i, epoch) in zip(images, pairs, strict=True)], None
    moved = [
        transform.with_landmarks(image, points, epoch, i)
        for image, points, (i, epoch) in zip(images, landmarks, pairs, strict=True)
    ]
    return [image for image, _ in moved], np.stack([points for _, points in moved])


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8) if image.ndim == 2 else image


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    """Turn (B, S, S) or (B, S, S, 3) into (B, 3, S, S); gray images share one channel's memory."""
    tensor = torch.from_numpy(images)
    return tensor.unsqueeze(1).expand(-1, 3, -1, -1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def identity(batch: Any) -> Any:
    """Collate nothing: the data set serves whole batches."""
    return batch


def single_threaded(worker_id: int) -> None:
    """Set OpenCV up in a loader process.

    Here and not beside the loaders, as a process that is spawned imports this module: Lightning would double its start.
    """
    cv2.setNumThreads(0)
