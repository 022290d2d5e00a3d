import re

import pytest

from src.benchmarks import predict


def test_crops_are_compared_with_one_by_one(monkeypatch):
    monkeypatch.setattr(predict, "N_CROPS", 2)
    row = predict._crops(64, 1)
    assert row.baseline == "one by one in float32"
    assert row.ratio is not None
    assert row.ratio > 0


@pytest.mark.slow
def test_memory_is_that_of_the_measured_process(monkeypatch):
    monkeypatch.setattr(predict, "N_FRAMES", (3, 40))
    ballast = bytearray(2**30)  # of this process, which is none of the other's business
    ballast[:: 2**12] = bytes(len(ballast[:: 2**12]))
    short, long = predict._memory()
    peaks = [float(re.search(r"peak memory (\d+) MiB", row.note)[1]) for row in (short, long)]
    assert all(100 < peak < 1024 for peak in peaks)
    assert "times that of 3 frames" in long.note
