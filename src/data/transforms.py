"""What happens to a training image: albumentations per image, MixUp and CutMix per batch."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

# Albumentations looks for a newer release on the network at import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from src.utils.errors import ConfigError


@dataclass(frozen=True)
class TransformConfig:
    """The keys of `conf/transform/`, which documents them."""

    name: str
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    affine_probability: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    color_probability: float = 1.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> TransformConfig:
        """Create the configuration from the keys of `transform=`.

        Raises:
            ConfigError: If a key is unknown, or its value is outside its range.
        """
        known = [field.name for field in fields(cls)]
        for key, value in keys.items():
            if key not in known:
                raise ConfigError(
                    f"transform.{key}={value} is unknown; expected one of {', '.join(known)}. Leave it out."
                )
        return cls(**keys)

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: If a value is not a number of 0 or more, or a probability is above 1.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise ConfigError(f"transform.{field.name}={value}; expected a number of 0 or more.")
            if field.name in _PROBABILITIES and value > 1:
                raise ConfigError(f"transform.{field.name}={value}; expected a probability in [0, 1].")
            if value > _LARGEST.get(field.name, value):
                raise ConfigError(f"transform.{field.name}={value}; expected at most {_LARGEST[field.name]}.")

    @property
    def only_mirrors(self) -> bool:
        """Whether images are mirrored at most."""
        return replace(self, horizontal_flip=0.0) == TransformConfig(self.name)


_PROBABILITIES = {
    "horizontal_flip", "vertical_flip", "affine_probability", "color_probability", "erase", "mix_probability",
}  # fmt: skip


# Beyond these an image would turn negative, inside out or round the color circle twice.
_LARGEST = {"scale": 0.9, "translate": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}


# Where the landmark of each iBUG number was before a horizontal flip: jaw, brows, nose, eyes, lips change sides
# (Sagonas et al., 300 Faces in-the-Wild, 2013, figure 1).
MIRROR = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31), *range(35, 30, -1),
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        *range(54, 47, -1), *range(59, 54, -1),
        *range(64, 59, -1), *range(67, 64, -1),
    ]
)  # fmt: skip


class FaceFlip(A.HorizontalFlip):  # type: ignore[misc]  # albumentations has no annotations here
    """Horizontal flip after which 36 is still the outer corner of the eye on the left of the image."""

    def apply_to_keypoints(self, keypoints: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """Mirror 68 iBUG landmarks and renumber them, so that they are those of the mirrored face."""
        return cast(NDArray[np.float32], super().apply_to_keypoints(keypoints, **params)[MIRROR])


# An image that tells whether it was mirrored.
_MARKED = np.array([[[1], [0]]], dtype=np.uint8).repeat(3, axis=2)


class ImageTransform:
    """Augments single images; the result is a function of (seed, epoch, index) alone.

    Landmarks move with the image and may leave it. A vertical flip keeps their numbers: it changes no side, so 36
    stays on the left of the image, but jaw and chin are then above the eyes.
    """

    def __init__(self, config: TransformConfig, seed: int) -> None:
        """Create the transform.

        Args:
            config: What to do.
            seed: The run's seed.
        """
        self.seed = seed
        steps = _steps(config)
        self._moves = any(isinstance(step, A.DualTransform) for step in steps)
        # Albumentations warns of landmarks that no step can move.
        points = A.KeypointParams(format="xy", remove_invisible=False) if self._moves else None
        self._compose = A.Compose(steps, keypoint_params=points)

    def __call__(self, image: NDArray[np.uint8], epoch: int, index: int) -> NDArray[np.uint8]:
        """Augment one image, uint8 RGB (H, W, 3), keeping its size."""
        return cast(NDArray[np.uint8], self._augment(epoch, index, image=image)["image"])

    def mirrors(self, epoch: int, index: int) -> bool:
        """Return whether an image is mirrored, for a transform that does nothing else."""
        return bool(self(_MARKED, epoch, index)[0, 1].any())

    def with_landmarks(
        self, image: NDArray[np.uint8], landmarks: NDArray[np.float32], epoch: int, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Augment one image and its landmarks.

        Args:
            image: uint8 RGB, (H, W, 3).
            landmarks: x and y of the 68 iBUG points in pixels, 0 being the center of the first one, (68, 2); NaN
                where missing.
            epoch: Epoch, from 0.
            index: Number of the image in its data set.

        Returns:
            The image as without landmarks, and the landmarks in it.
        """
        if not self._moves:
            return self(image, epoch, index), landmarks
        result = self._augment(epoch, index, image=image, keypoints=landmarks)
        return result["image"], result["keypoints"]

    def _augment(self, epoch: int, index: int, **targets: NDArray[Any]) -> dict[str, NDArray[Any]]:
        if not self._compose.transforms:
            return targets
        rng = np.random.default_rng((self.seed, epoch, index))
        # All steps share one generator: `set_random_seed` would make one for each, at several times the cost.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        return cast(dict[str, NDArray[Any]], self._compose(**targets))


def _steps(c: TransformConfig) -> list[A.BasicTransform]:
    steps: list[A.BasicTransform] = []
    if c.horizontal_flip:
        steps.append(FaceFlip(p=c.horizontal_flip))
    if c.vertical_flip:
        steps.append(A.VerticalFlip(p=c.vertical_flip))
    if c.rotate or c.scale or c.translate:
        steps.append(
            A.Affine(
                rotate=(-c.rotate, c.rotate),
                scale=(1 - c.scale, 1 + c.scale),
                translate_percent=(-c.translate, c.translate),
                keep_ratio=True,
                border_mode=cv2.BORDER_REPLICATE,
                p=c.affine_probability,
            )
        )
    if c.saturation or c.hue:
        jitter: dict[str, Any] = {
            name: (1 - getattr(c, name), 1 + getattr(c, name)) for name in ("brightness", "contrast", "saturation")
        }
        steps.append(A.ColorJitter(**jitter, hue=(-c.hue, c.hue), p=c.color_probability))
    elif c.brightness or c.contrast:
        # One table look-up, where ColorJitter takes four passes.
        steps.append(A.RandomBrightnessContrast(c.brightness, c.contrast, p=c.color_probability))
    if c.erase:
        box = (0.1, 0.35)
        steps.append(
            A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=box, hole_width_range=box, fill=0, p=c.erase)
        )
    return steps


class BatchMix:
    """MixUp (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) of a batch, or neither."""

    def __init__(self, config: TransformConfig) -> None:
        """Create the transform.

        Args:
            config: `mixup` and `cutmix` are the parameters of the Beta distribution; 0 leaves one out. Where both are
                set, each batch takes one of them.
        """
        self.probability = config.mix_probability
        self._choices: list[v2.Transform] = []
        if config.mixup:
            self._choices.append(v2.MixUp(alpha=config.mixup))
        if config.cutmix:
            self._choices.append(v2.CutMix(alpha=config.cutmix))

    def __bool__(self) -> bool:
        """Whether any mixing is on."""
        return bool(self._choices)

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mix each image of a batch with the one before it, the first with the last.

        Args:
            images: (B, 3, S, S).
            targets: What is known of them, class probabilities and other values, (B, n).

        Returns:
            The images and the targets, both mixed in the same proportions, and the fraction in a mixture of the image
            whose place it has; None where nothing is mixed.
        """
        if not self._choices or float(torch.rand(())) >= self.probability:
            return images, targets, None
        choice = self._choices[int(torch.randint(len(self._choices), ()))]
        # torchvision does not tell the fraction: a column in which only the last image has something shows it.
        marked = torch.cat((targets, torch.zeros_like(targets[:, :1])), dim=1)
        marked[-1, -1] = 1
        images, mixed = choice(images, marked)
        return images, mixed[:, :-1], mixed[-1, -1]
