"""Image files of any kind as uint8 pixels, or the reason why one cannot be read."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Longest side kept, EmoNet's native one: stores hold raw pixels, so a camera's 12 megapixels would cost 36 MB each.
MAX_SIDE = 256
# Refused before decoding, since a file of a few KB can unpack to gigabytes; no data set's photos come near.
MAX_PIXELS = 2**26
MAX_BYTES = 2**28

# The raster formats: Pillow hands others to external programs (EPS to Ghostscript), which no stranger's file may start.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "PPM", "AVIF")
# What the first box of HEIC files says of them, which iPhones write; that of AVIF may begin alike.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")

# What Pillow's decoders raise on broken files, beside OSError; found by feeding them 60,000 damaged images.
BROKEN = (
    *(SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
_ORIENTATION = 0x0112


class UnreadableImage(Exception):
    """An image that cannot be read; the message is the reason."""


def read_image(source: Path | bytes, max_side: int = MAX_SIDE) -> NDArray[np.uint8]:
    """Read an image and shrink it.

    Args:
        source: File, or its content. Its name does not matter: the content says what it is.
        max_side: Longest side of the result in pixels; larger images are averaged down, none is enlarged.

    Returns:
        Upright pixels in [0, 255]: (H, W) if gray, also where three channels are equal, else (H, W, 3) RGB.

    Raises:
        UnreadableImage: If there is none to be had.
    """
    return shrink(decode_image(source), max_side)


def decode_image(source: Path | bytes, upright: bool = True) -> NDArray[np.uint8]:
    """Read an image at full size.

    The first frame counts; transparent parts become white; 16 bits a channel become 8.

    Args:
        source: File, or its content.
        upright: Whether to turn the image as its EXIF orientation says.

    Returns:
        Pixels in [0, 255], (H, W) gray or (H, W, 3) RGB.

    Raises:
        UnreadableImage: If there is none to be had.
    """
    data = _content(source) if isinstance(source, Path) else source
    if not data:
        raise UnreadableImage("zero bytes")
    try:
        # Pillow warns of odd metadata and of its own, smaller pixel limit; neither concerns the pixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
                _check_size(image.size)
                image.load()
                return _pixels(_turned(image) if upright else image)
    except UnidentifiedImageError:
        raise UnreadableImage("not an image, or of an unknown format") from None
    except (Image.DecompressionBombError, MemoryError):
        raise UnreadableImage(f"more than {MAX_PIXELS:,} pixels (a decompression bomb?)") from None
    except OSError as error:
        reason = "truncated" if "truncated" in str(error).lower() else f"broken ({error})"
        raise UnreadableImage(reason) from None
    except BROKEN as error:
        raise UnreadableImage(f"broken ({error or type(error).__name__})") from None


def _formats(data: bytes) -> tuple[str, ...]:
    """Return Pillow's names of the formats that a file may have.

    Raises:
        UnreadableImage: If it is HEIC, and nothing that reads it is installed.
    """
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)] if data[4:8] == b"ftyp" else b""
    if not any(brand in brands for brand in HEIC_BRANDS):
        return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UnreadableImage("HEIC, which the extra heic reads: pip install 'emonet-fer[heic]'") from None
    register_heif_opener()
    return ("HEIF",)


def pillow_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the upright pixels of a Pillow image, see `decode_image`.

    Raises:
        UnreadableImage: If its file is broken.
    """
    _check_size(image.size)
    try:
        return _pixels(_turned(image))
    except (*BROKEN, OSError) as error:
        raise UnreadableImage(f"broken ({error or type(error).__name__})") from None


def shrink(image: NDArray[np.uint8], max_side: int = MAX_SIDE) -> NDArray[np.uint8]:
    """Average an image (H, W) or (H, W, 3) down until no side exceeds `max_side`; smaller ones stay as they are."""
    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def fit(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize an image (H, W) or (H, W, 3) to a square of side `size`: area averaging down, bilinear up."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    method = cv2.INTER_AREA if min(height, width) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), dtype=np.uint8)


def read_limited(file: IO[bytes]) -> bytes:
    """Return a file's content.

    Raises:
        UnreadableImage: If it has more than `MAX_BYTES`, whatever size an archive states.
    """
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnreadableImage(f"more than {MAX_BYTES // 2**20} MB")
    return data


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UnreadableImage("missing" if not path.exists() else "not a file")
        with path.open("rb") as file:
            return read_limited(file)
    except OSError as error:
        raise UnreadableImage(f"cannot be opened ({error.strerror})") from None


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels, more than {MAX_PIXELS:,} (a decompression bomb?)")


def _turned(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; without one that can be read, the image stays as it is."""
    try:
        # Only then: the transposition copies the image and writes its metadata anew.
        return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    except (*BROKEN, OSError):
        return image


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a decoded image of any mode."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_gray(image)
    if image.mode in ("L", "1"):
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    colors = np.array(image.convert("RGB"))
    first = colors[..., 0]
    is_gray = np.array_equal(first, colors[..., 1]) and np.array_equal(first, colors[..., 2])
    return np.ascontiguousarray(first) if is_gray else colors


def _deep_gray(image: Image.Image) -> NDArray[np.uint8]:
    """Return a gray image of 16 bits as uint8; of the 32-bit kinds, values of 16 bits are accepted."""
    values = np.array(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(f"pixels of mode {image.mode}; expected 8 or 16 bits a channel")
    # The high byte, as Pillow takes of 16-bit colors.
    return cast(NDArray[np.uint8], (values >> 8).astype(np.uint8))
