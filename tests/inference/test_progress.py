import pytest

from src.inference import progress
from src.inference.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("spent", "left"), [(10, "about 0:30 left"), (30, "about 1:30 left"), (3000, "about 2:30:00 left")]
)
def test_the_rest_takes_as_long_as_what_was_done(clock, spent, left):
    way = Progress(first=60, end=80)
    clock[0] += spent
    assert way.news(65) == f"65.0 of 80.0 s, {left}"


@pytest.mark.parametrize(("first", "at", "end"), [(0, 5, float("inf")), (5, 5, 20), (0, 21, 20)])
def test_what_cannot_be_told_is_not(clock, first, at, end):
    assert Progress(first, end).news(at) == f"{at:.1f} s"


def test_news_come_now_and_then(clock):
    way, due = Progress(0, 100), []
    for _ in range(40):
        clock[0] += 1
        due.append(way.is_due())
    assert [i for i, told in enumerate(due, start=1) if told] == [16, 32]
