"""The harness notices what it is there for: each kind of failure costs itself alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from src.utils.errors import ConfigError
from tests.fuzz import campaign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def refuse(path: Path) -> None:
    raise ConfigError("not this one")


def crash(path: Path) -> None:
    raise KeyError("a")


def fill(path: Path) -> None:
    bytes(campaign.MAX_MEMORY + 2**28)


def spin(path: Path) -> None:
    while True:
        pass


def wait(path: Path) -> None:
    time.sleep(3600)


def die(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


BEHAVIORS = {"pass": lambda path: None, "refuse": refuse, "crash": crash, "fill": fill, "die": die, "spin": spin}


def test_every_failure_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.fuzz import targets

    kinds = [*BEHAVIORS, "wait", "pass"]
    monkeypatch.setattr(targets, "TARGETS", {**BEHAVIORS, "wait": wait})
    monkeypatch.setattr(campaign, "CPU_SECONDS", 0.5)
    monkeypatch.setattr(campaign, "WALL_SECONDS", 4.0)
    outcomes: list[campaign.Outcome] = []
    while len(outcomes) < len(kinds):
        rest = list(range(len(outcomes), len(kinds)))
        outcomes += campaign._run_batch(rest, lambda number: (kinds[number], tmp_path / "a"))
    results = [outcome.result for outcome in outcomes]
    assert results == ["accepted", "refused", "crash", "crash", "killed", "hang", "hang", "accepted"]
    assert outcomes[2].detail.startswith("a: KeyError")
    assert "MemoryError" in outcomes[3].detail
