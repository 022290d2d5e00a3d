"""Images of every kind become uint8 gray or RGB; what is broken has a reason."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.readers import images as images
from src.data.readers.images import MAX_SIDE, UnreadableImage, decode_image, read_image, shrink
from tests.helpers.image_files import encoded, pixels


def _reason(source: Path | bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(source)
    return str(caught.value)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colors_come_back_in_rgb_order(kind: str) -> None:
    image = pixels(1, 9, 14)
    assert np.array_equal(read_image(encoded(image, kind)), image)


def test_gray_stays_gray_also_in_three_channels() -> None:
    gray = pixels(2, gray=True)
    assert np.array_equal(read_image(encoded(gray)), gray)
    assert np.array_equal(read_image(encoded(np.stack([gray] * 3, axis=-1))), gray)


def test_content_decides_whatever_the_name_says(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(pixels(3)))
    assert np.array_equal(read_image(path), pixels(3))


@pytest.mark.parametrize("name", ["fáce 😀 (1).png", "x" * 251 + ".png"])
def test_unicode_and_very_long_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(pixels(4)))
    assert np.array_equal(read_image(tmp_path / name), pixels(4))


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = read_image(_saved(red, "JPEG", quality=95))
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() < 16


def test_transparent_parts_become_white() -> None:
    rgba = np.dstack([pixels(5), np.full((12, 12), 255, np.uint8)])
    rgba[:6, :, 3] = 0
    image = read_image(encoded(rgba))
    assert (image[:6] == 255).all()
    assert np.array_equal(image[6:], rgba[6:, :, :3])


def test_palettes_are_looked_up() -> None:
    palette = Image.fromarray(pixels(6)).quantize(16)
    expected = np.array(palette.convert("RGB"))
    assert np.array_equal(read_image(_saved(palette, "PNG")), expected)
    index = int(np.array(palette)[0, 0])
    assert (read_image(_saved(palette, "PNG", transparency=index))[0, 0] == 255).all()


def test_one_bit_and_gray_with_alpha() -> None:
    bits = pixels(7, gray=True) > 127
    assert np.array_equal(read_image(_saved(Image.fromarray(bits), "PNG")), bits * np.uint8(255))
    gray = Image.merge("LA", [Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 0)])
    assert np.array_equal(read_image(_saved(gray, "PNG")), np.full((4, 4), 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind: str) -> None:
    gray = pixels(8, gray=True)
    assert np.array_equal(read_image(encoded(gray.astype(np.uint16) * 257, kind)), gray)


def _heic(image: np.ndarray) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return _saved(Image.fromarray(image), "HEIF", quality=-1)  # lossless but for the turn to YCbCr


def test_heic_is_read() -> None:
    image = np.repeat(np.repeat(pixels(1, 8, 8), 8, axis=0), 8, axis=1)
    read = decode_image(_heic(image))
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 12  # colors have half the resolution


def test_heic_without_what_reads_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _heic(pixels(1, 64, 64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install 'emonet-fer[heic]'" in _reason(data)


def test_avif_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert decode_image(encoded(pixels(1, 64, 64), "AVIF")).shape == (64, 64, 3)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "lime")]
    image = read_image(_saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (image == (255, 0, 0)).all()


def test_exif_orientation_is_applied_unless_unwanted() -> None:
    image = pixels(9, 6, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = encoded(image, "PNG", exif=exif)
    assert np.array_equal(read_image(data), np.rot90(image, -1))
    assert np.array_equal(decode_image(data, upright=False), image)


def test_broken_exif_is_ignored() -> None:
    data = encoded(pixels(10), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert read_image(data).shape == (12, 12, 3)


def test_large_images_are_averaged_down() -> None:
    image = pixels(11, 4 * MAX_SIDE, 2 * MAX_SIDE)
    small = read_image(encoded(image))
    assert small.shape == (MAX_SIDE, MAX_SIDE // 2, 3)
    blocks = image.reshape(MAX_SIDE, 4, MAX_SIDE // 2, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - blocks).max() <= 0.51
    assert shrink(pixels(12), 12).shape == (12, 12, 3)
    assert read_image(encoded(pixels(13, 1, 3000))).shape == (1, MAX_SIDE, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"this is not a photo\n" * 50, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        (encoded(pixels(14, 40), "JPEG")[:900], "truncated"),
        (encoded(pixels(14, 40))[:900], "truncated"),
        (encoded(pixels(14, 40), "TIFF")[:900], ""),
        (encoded(pixels(15).astype(np.float32)[..., 0], "TIFF"), "mode F"),
    ],
    ids=["empty", "text", "eps", "jpeg", "png", "tiff", "float"],
)
def test_what_cannot_be_read_has_a_reason(data: bytes, reason: str) -> None:
    assert reason in _reason(data)


def test_missing_files_and_folders_have_a_reason(tmp_path: Path) -> None:
    assert _reason(tmp_path / "gone.jpg") == "missing"
    assert _reason(tmp_path) == "not a file"
    assert "cannot be opened" in _reason(tmp_path / ("x" * 300))


def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    assert "bomb" in _reason(_png_header(60_000, 60_000))
    assert "bomb" in _reason(_png_header(9_000, 9_000))


def test_enormous_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encoded(pixels(16)))
    assert "more than" in _reason(tmp_path / "a.png")


def test_damaged_files_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"):
        data = np.frombuffer(encoded(pixels(17, 20), kind), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            places = rng.integers(0, min(len(data), rng.choice([30, 10_000])), 4)
            damaged[places] = rng.integers(0, 256, 4)
            try:
                assert read_image(damaged.tobytes()).dtype == np.uint8
            except UnreadableImage as error:
                assert str(error)


def _png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
