import time
from pathlib import Path

import pytest

from src.benchmarks.measure import compare, markdown, peak_memory, summarize, time_rounds, to_dict


def test_tasks_take_turns_and_the_first_round_does_not_count():
    calls = []
    times = time_rounds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_how_many_times_faster_ours_is():
    row = compare("data", "sleep", lambda: time.sleep(0.01), "longer sleep", lambda: time.sleep(0.04), rounds=3)
    assert row.ratio == pytest.approx(4, rel=0.5)
    assert row.fastest <= row.seconds <= row.slowest


def test_reports():
    rows = [summarize("data", "open", [0.002, 0.001, 0.004], note="cold")]
    assert "| data: open | 2 (1 to 4) ms |  |  | cold |" in markdown(rows)
    content = to_dict(rows)
    assert content["rows"][0]["seconds"] == 0.002
    assert content["machine"]["threads"] >= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say")
def test_peak_memory_is_what_was_touched():
    before = peak_memory()
    ballast = bytearray(256 * 2**20)
    ballast[:: 2**12] = bytes(len(ballast[:: 2**12]))
    assert peak_memory() > min(before, 512)
    assert 256 < peak_memory() < 16 * 1024


def test_peak_memory_is_left_out_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert peak_memory() is None
