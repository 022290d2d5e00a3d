"""What happens to a training picture: albumentations per picture, MixUp and CutMix per batch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
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


_PROBABILITIES = {
    "horizontal_flip", "vertical_flip", "affine_probability", "color_probability", "erase", "mix_probability",
}  # fmt: skip


# Beyond these a picture would turn negative, inside out or round the colour circle twice.
_LARGEST = {"scale": 0.9, "translate": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}


class PictureTransform:
    """Augments single pictures; the result is a function of (seed, epoch, index) alone."""

    def __init__(self, config: TransformConfig, seed: int) -> None:
        """Create the transform.

        Args:
            config: What to do.
            seed: The run's seed.
        """
        self.seed = seed
        self._compose = A.Compose(_steps(config))

    def __call__(self, image: NDArray[np.uint8], epoch: int, index: int) -> NDArray[np.uint8]:
        """Augment one picture, uint8 RGB (H, W, 3), keeping its size."""
        if not self._compose.transforms:
            return image
        entropy = np.random.SeedSequence((self.seed, epoch, index))
        self._compose.set_random_seed(int(entropy.generate_state(1)[0]))
        return cast(NDArray[np.uint8], self._compose(image=image)["image"])


def _steps(c: TransformConfig) -> list[A.BasicTransform]:
    steps: list[A.BasicTransform] = []
    if c.horizontal_flip:
        steps.append(A.HorizontalFlip(p=c.horizontal_flip))
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
    if c.brightness or c.contrast or c.saturation or c.hue:
        jitter: dict[str, Any] = {
            name: (1 - getattr(c, name), 1 + getattr(c, name)) for name in ("brightness", "contrast", "saturation")
        }
        steps.append(A.ColorJitter(**jitter, hue=(-c.hue, c.hue), p=c.color_probability))
    if c.erase:
        box = (0.1, 0.35)
        steps.append(
            A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=box, hole_width_range=box, fill=0, p=c.erase)
        )
    return steps


class BatchMix:
    """MixUp (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) of a batch, or neither."""

    def __init__(self, config: TransformConfig, n_classes: int) -> None:
        """Create the transform.

        Args:
            config: `mixup` and `cutmix` are the parameters of the Beta distribution; 0 leaves one out. Where both are
                set, each batch takes one of them.
            n_classes: Number of classes of the soft labels.
        """
        self.probability = config.mix_probability
        self._choices: list[v2.Transform] = []
        if config.mixup:
            self._choices.append(v2.MixUp(alpha=config.mixup, num_classes=n_classes))
        if config.cutmix:
            self._choices.append(v2.CutMix(alpha=config.cutmix, num_classes=n_classes))

    def __bool__(self) -> bool:
        """Whether any mixing is on."""
        return bool(self._choices)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: (B, 3, S, S).
            labels: Class indices (B,).

        Returns:
            The images, and the labels: (B, n_classes) probabilities if mixed, else unchanged.
        """
        if not self._choices or float(torch.rand(())) >= self.probability:
            return images, labels
        choice = self._choices[int(torch.randint(len(self._choices), ()))]
        return cast(tuple[Tensor, Tensor], choice(images, labels))
