"""Kill a training at random moments, resume it each time, and compare it with one that was left alone.

    python -m tests.helpers.kills <folder> [--kills 20] [--workers 0] [--seed 0]

Each attempt is a process of its own that is forked once everything is imported, so that kills fall into the run and not
into the imports. Checkpoints, weights, predictions and metrics must end bit-equal.
"""

import argparse
import json
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

OPTIONS = [
    *("data.n_train=200", "data.n_val=28", "data.n_test=35", "data.batch_size=8", "data.image_size=64"),
    *(
        "backbone=emonet_tiny",
        "backbone.width=16",
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.max_epochs=8",
        "logger=csv",
    ),
    *("trainer.enable_progress_bar=false", "transform=strong", "transform.mixup=0.2", "callbacks=ema"),
]


def attempt(overrides: list[str], delay: float | None, module: str = "src.train") -> tuple[bool, float]:
    """Run a command in a forked process; kill it after some seconds. Return whether it finished, and the time."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.argv = [module, *overrides]
        code = 0
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        os._exit(code)
    if delay is not None:
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while time.monotonic() - start < delay and os.waitid(os.P_PID, child, ended) is None:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run ended with exit code {code}")
    return code == 0, time.monotonic() - start


def run(folder: Path, kills: int, workers: int, seed: int) -> list[str]:
    """Kill as often as told, in as many runs as that takes; return the files that differ from the straight run's."""
    import src.engine.fit  # noqa: F401  # once, for all attempts

    rng = random.Random(seed)
    shared = [*OPTIONS, f"data_dir={folder / 'data'}"]
    straight = folder / "straight"
    attempt([*shared, f"hydra.run.dir={straight}"], None)
    _, seconds = attempt([*shared, f"hydra.run.dir={folder / 'timed'}"], None)  # the data are there now
    n, differ = 0, []
    for number in count():
        killed = folder / f"killed_{number}"
        options = [*shared, f"data.num_workers={workers}", f"hydra.run.dir={killed}", "ckpt_path=auto"]
        finished = False
        while not finished:
            finished, _ = attempt(options, rng.uniform(0, seconds * 0.7) if n < kills else None)
            if not finished:
                n += 1
                print(f"kill {n}: {killed.name}, {_progress(killed)}", flush=True)
        differ += [f"{killed.name}/{name}" for name in different(straight, killed)]
        if n >= kills:
            return differ


def repeat(command: Callable[[Path], tuple[str, list[str]]], folder: Path, kills: int, seed: int) -> tuple[Path, Path]:
    """Run a command to its end, and elsewhere again and again with a kill at a random moment, until it finishes.

    Args:
        command: Module and options of the command that works in a folder.
        folder: Folder of both.
        kills: How often it is killed.
        seed: Seed of the moments.

    Returns:
        The folder of the one that was left alone, and the folder of the other.
    """
    import src.engine.fit  # noqa: F401  # once, for all attempts

    rng, straight, killed = random.Random(seed), folder / "straight", folder / "killed"
    module, options = command(straight)
    _, seconds = attempt(options, None, module)
    module, options = command(killed)
    for n in range(kills):
        if attempt(options, rng.uniform(0, 0.9 * seconds), module)[0]:
            print(f"it finished after {n} kills", flush=True)
            break
    assert attempt(options, None, module)[0]
    return straight, killed


def same_files(straight: Path, killed: Path, pattern: str) -> list[str]:
    """Return the files of a pattern, relative to their folder; they must be the same in both, byte for byte."""
    names = [sorted(path.relative_to(root).as_posix() for path in root.glob(pattern)) for root in (straight, killed)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (straight / name).read_bytes() == (killed / name).read_bytes(), name
    return names[0]


def different(straight: Path, killed: Path) -> list[str]:
    """Return the names of the files that differ between two runs."""
    from tests.engine.test_fit import assert_equal_states, learned
    from tests.helpers.running import read_checkpoint

    names = []
    for name in ("last", "best"):
        try:
            assert_equal_states(learned(read_checkpoint(straight, name)), learned(read_checkpoint(killed, name)))
        except AssertionError as difference:
            names.append(f"{name}.ckpt ({difference})")
    for name in ("predictions.csv", "checkpoints/best.safetensors"):
        if (straight / name).read_bytes() != (killed / name).read_bytes():
            names.append(name)
    metrics = [json.loads((path / "metrics.json").read_text()) for path in (straight, killed)]
    kept = [{k: v for k, v in each.items() if not k.startswith("fit/")} for each in metrics]
    return names if kept[0] == kept[1] else [*names, "metrics.json"]


def _progress(run_dir: Path) -> str:
    from src.utils.schemas import read_json
    from tests.helpers.running import read_checkpoint

    last = run_dir / "checkpoints" / "last.ckpt"
    epochs = read_checkpoint(run_dir)["epoch"] + 1 if last.exists() else 0
    return f"{epochs} epochs finished, status {read_json(run_dir / 'status.json').get('state')}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = run(arguments.folder.resolve(), arguments.kills, arguments.workers, arguments.seed)
    print(f"differ: {', '.join(found)}" if found else "bit-equal")
    sys.exit(bool(found))
