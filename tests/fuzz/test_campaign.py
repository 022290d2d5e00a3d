"""Damaged files of every kind give a result or a clean refusal, in bounded memory and time."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from src.utils.paths import ROOT
from tests.fuzz.campaign import GOOD, Outcome, summary
from tests.fuzz.mutations import mutate, mutate_json


def campaign(inputs: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run a campaign in a process that has no threads, from which others can be forked."""
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--inputs", str(inputs), "--seed", str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_some_damaged_files() -> None:
    done = campaign(16, seed=0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 inputs" in done.stdout


@pytest.mark.slow
def test_many_damaged_files() -> None:
    """Any seed will do: `FUZZ_SEED` repeats one."""
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(10**6)))
    done = campaign(int(os.environ.get("FUZZ_INPUTS", 3000)), seed)
    assert done.returncode == 0, done.stdout + done.stderr


def test_damage_is_a_function_of_the_seed() -> None:
    content = bytes(range(256)) * 8
    one, same, other = (mutate(content, random.Random(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert sum(mutate(content, random.Random(seed)) != content for seed in range(50)) > 45
    text = b'{"a": [1, {"b": 2}], "c": "d"}'
    assert len({mutate_json(text, random.Random(seed)) for seed in range(50)}) > 20


def test_failures_are_named_with_their_numbers() -> None:
    outcomes = [
        Outcome(0, "image", "accepted"),
        Outcome(1, "run", "refused"),
        Outcome(2, "onnx", "hang", "exit code -27"),
    ]
    assert summary(outcomes) == "1 accepted, 1 hang, 1 refused\n  2 onnx: hang: exit code -27"
    assert [outcome.result in GOOD for outcome in outcomes] == [True, True, False]
