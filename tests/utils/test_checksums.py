"""Tests of checksums: every byte of a file has a part in them."""

import zlib

import numpy as np
import pytest

from src.utils import checksums
from src.utils.checksums import file_checksums


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200])
def test_parts_are_those_of_the_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr(checksums, "PART", 64)
    monkeypatch.setattr(checksums, "STEP", 16)
    content = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8).tobytes()
    (tmp_path / "a").write_bytes(content)
    assert file_checksums(tmp_path / "a") == [zlib.crc32(content[i : i + 64]) for i in range(0, size, 64)]
