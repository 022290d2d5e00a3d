"""Damage files of every kind and let commands' readers have them: each gives a result or a clean refusal.

    python -m tests.fuzz.campaign [--inputs 3000] [--seed 0] [--kinds image,video] [--only 17]

Inputs are a function of the seed. Batches run in forked processes of bounded memory and time, so that one which is
killed or hangs costs itself alone. Prints counts, and every failure with its place; the exit code says if there is one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutations import mutate, mutate_json

MAX_MEMORY = 2**31
# Of the processor, and by the clock: others may use the machine, too.
CPU_SECONDS, WALL_SECONDS = 20.0, 120.0
BATCH = 40
GOOD = ("accepted", "refused")


@dataclass(frozen=True)
class Outcome:
    """What became of an input: `accepted`, `refused`, `crash`, `killed` or `hang`, and where."""

    number: int
    kind: str
    result: str
    detail: str = ""


def run(n: int, seed: int, kinds: Sequence[str] = (), only: int | None = None) -> list[Outcome]:
    """Run a campaign and return what became of each input."""
    from tests.fuzz import targets
    from tests.fuzz.corpus import build

    _quiet()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        corpus = build(root / "corpus")
        targets.predictor()
        chosen = list(kinds or targets.TARGETS)
        numbers = list(range(n)) if only is None else [only]
        outcomes: list[Outcome] = []
        while len(outcomes) < len(numbers):
            batch = numbers[len(outcomes) : len(outcomes) + BATCH]
            for outcome in _run_batch(batch, lambda i: _case(i, seed, chosen, corpus, root / "cases")):
                outcomes.append(outcome)
                if outcome.result not in GOOD:
                    print(_line(outcome), flush=True)
            shutil.rmtree(root / "cases", ignore_errors=True)
    return outcomes


def _quiet() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _case(number: int, seed: int, kinds: list[str], corpus: dict[str, list[Path]], root: Path) -> tuple[str, Path]:
    """Write the input of a number; return its kind and where it is."""
    rng = random.Random(f"{seed}/{number}")
    kind = kinds[number % len(kinds)]
    entry = rng.choice(corpus[kind])
    place = root / str(number) / entry.name
    place.parent.mkdir(parents=True)
    if entry.is_dir():
        shutil.copytree(entry, place)
        # A file of each ending alike: there are more images than tables.
        files = sorted(path for path in place.rglob("*") if path.is_file())
        ending = rng.choice(sorted({path.suffix for path in files}))
        victim = rng.choice([path for path in files if path.suffix == ending])
    else:
        shutil.copy(entry, place)
        victim = place
    content, chance = victim.read_bytes(), rng.random()
    if chance < 0.03 and victim != place:
        victim.unlink()
        rng.choice((lambda: None, victim.mkdir, lambda: os.mkfifo(victim), lambda: victim.symlink_to("/dev/zero")))()
        return kind, place
    others = [path for path in corpus[kind] if path.is_file()]
    other = rng.choice(others).read_bytes() if others else b""
    is_json = victim.suffix == ".json" and chance < 0.7
    victim.write_bytes(mutate_json(content, rng) if is_json else mutate(content, rng, other))
    return kind, place


def _run_batch(numbers: list[int], case) -> Iterator[Outcome]:
    """Yield what becomes of some inputs, up to one that ends the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(numbers, case, writing)
    os.close(writing)
    kinds: dict[int, str] = {}
    with os.fdopen(reading) as lines:
        running = None
        while True:
            ready, _, _ = select.select([lines], [], [], WALL_SECONDS)
            line = lines.readline() if ready else None
            if not line:
                break
            told = json.loads(line)
            running = told["number"]
            kinds[running] = told["kind"]
            if "result" in told:
                yield Outcome(**told)
                running = None
    if line is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if running is not None:
        code = os.waitstatus_to_exitcode(status)
        hangs = line is None or code == -signal.SIGPROF
        yield Outcome(running, kinds[running], "hang" if hangs else "killed", f"exit code {code}")


def _work(numbers: list[int], case, writing: int) -> None:
    """Run inputs in a process of their own, and end it."""
    from tests.fuzz.targets import REFUSALS, TARGETS

    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(writing, "w", buffering=1) as lines:
        for number in numbers:
            kind, place = case(number)
            print(json.dumps({"number": number, "kind": kind}), file=lines)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            result, detail = "accepted", ""
            try:
                TARGETS[kind](place)
            except REFUSALS as error:
                result, detail = "refused", str(error)[:200]
            except BaseException as error:
                result, detail = "crash", f"{place.name}: {_where(error)}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps({"number": number, "kind": kind, "result": result, "detail": detail}), file=lines)
    os._exit(0)


def _where(error: BaseException) -> str:
    """Return an error with the last place of our own that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/src/" in frame.filename]
    places = " < ".join(f"{'/'.join(f.filename.split('/')[-2:])}:{f.lineno}" for f in reversed(frames[-3:]))
    return f"{type(error).__name__}: {str(error)[:200]} ({places})"


def summary(outcomes: list[Outcome]) -> str:
    """Return counts, and the failures."""
    counts = Counter(outcome.result for outcome in outcomes)
    lines = [", ".join(f"{n} {name}" for name, n in sorted(counts.items()))]
    lines += [_line(outcome) for outcome in outcomes if outcome.result not in GOOD]
    return "\n".join(lines)


def _line(outcome: Outcome) -> str:
    return f"  {outcome.number} {outcome.kind}: {outcome.result}: {outcome.detail}"


def main() -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    start = time.monotonic()
    outcomes = run(given.inputs, given.seed, [kind for kind in given.kinds.split(",") if kind], given.only)
    print(f"seed {given.seed}, {len(outcomes)} inputs, {time.monotonic() - start:.0f} s: {summary(outcomes)}")
    sys.exit(any(outcome.result not in GOOD for outcome in outcomes))


if __name__ == "__main__":
    main()
