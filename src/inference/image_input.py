"""Images as Python programs have them, as frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from src.data.readers.frames import Frame
from src.data.readers.images import decode_image, pillow_pixels
from src.inference.results import Image
from src.utils.errors import ConfigError

# A file's name or content, or pixels, see `as_frame`.
ImageInput = str | Path | bytes | bytearray | PIL.Image.Image | Image | Tensor | Frame


def is_image(value: object) -> bool:
    """Return whether something is one image, rather than several, or none."""
    return isinstance(value, str | Path | bytes | bytearray | PIL.Image.Image | np.ndarray | Tensor | Frame)


def as_frame(image: ImageInput, *, bgr: bool = False) -> Frame:
    """Return an image as a frame.

    Args:
        image: A file's name or content; a Pillow image, turned as its EXIF orientation says; upright pixels as an
            array, uint8 in [0, 255], (H, W, 3) or gray (H, W); or as torchvision's tensors, uint8 in [0, 255] or
            floats in [0, 1], (3, H, W) or (1, H, W).
        bgr: Whether the three channels of an array or a tensor are OpenCV's, blue, green and red, not RGB.

    Raises:
        UnreadableImage: If a file is no image, or broken.
        ConfigError: If it is something else.
    """
    if isinstance(image, Frame):
        return image
    if isinstance(image, str | Path):
        return Frame(str(image), _rgb(decode_image(Path(image))))
    if isinstance(image, bytes | bytearray):
        return Frame("image", _rgb(decode_image(bytes(image))))
    if isinstance(image, PIL.Image.Image):
        return Frame("image", _rgb(pillow_pixels(image)))
    if not isinstance(image, np.ndarray | Tensor):
        raise ConfigError(
            f"{type(image).__name__} is no image; expected a file's name or content (bytes), a Pillow image, a "
            "numpy array, a tensor, or a list or generator of them."
        )
    pixels = _rgb(_tensor_pixels(image) if isinstance(image, Tensor) else _array_pixels(image))
    return Frame("image", np.ascontiguousarray(pixels[..., ::-1]) if bgr else pixels)


def _array_pixels(array: np.ndarray[Any, Any]) -> Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ConfigError(
            f"an array of {array.dtype} {array.shape} cannot be predicted; expected RGB pixels in [0, 255]: uint8, "
            "(height, width, 3) or gray (height, width)."
        )
    return array


def _tensor_pixels(tensor: Tensor) -> Image:
    floats = tensor.is_floating_point()
    known = floats or tensor.dtype == torch.uint8
    if not known or tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.numel():
        raise ConfigError(
            f"a tensor of {tensor.dtype} {tuple(tensor.shape)} cannot be predicted; expected uint8 in [0, 255] or "
            "floats in [0, 1], (3, height, width) or (1, height, width). Give those of a batch one by one: "
            "predict(list(batch))."
        )
    pixels = tensor.detach().cpu()
    if floats:
        pixels = pixels.float()
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # NaN, too
            raise ConfigError(
                f"a tensor of {tensor.dtype} with values from {low:.3g} to {high:.3g} cannot be predicted; expected "
                "floats in [0, 1], before any normalization."
            )
        pixels = (pixels * 255).round().byte()
    array: Image = pixels.permute(1, 2, 0).contiguous().numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def _rgb(image: Image) -> Image:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
