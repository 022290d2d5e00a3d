"""Tests of images in files: as they were given, or an error."""

import cv2
import numpy as np
import pytest
from PIL import Image

from src.utils.errors import ConfigError
from src.utils.image_files import write_image
from tests.helpers.full_disk import full_disk

NOISE = np.random.default_rng(0).integers(0, 256, (100, 120, 3)).astype(np.uint8)


@pytest.mark.parametrize("image", [NOISE, NOISE[..., 0]])
def test_pixels_come_back(tmp_path, image):
    write_image(tmp_path / "größe.png", image)
    with Image.open(tmp_path / "größe.png") as found:
        np.testing.assert_array_equal(np.asarray(found), image)


def test_a_full_disk_is_an_error_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, NOISE[:4])
    before = path.read_bytes()
    with full_disk(2000), pytest.raises(OSError, match="File too large"):
        write_image(path, NOISE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_encoded_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(ConfigError, match=r"a\.png cannot be written"):
        write_image(tmp_path / "a.png", NOISE)
    assert not list(tmp_path.iterdir())
