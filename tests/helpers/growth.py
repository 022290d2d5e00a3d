"""Measure how preparing, auditing and searching a data set grow with its images: a table of docs/scaling.md.

    python -m tests.helpers.growth <folder> [10000 100000 1000000]

Times are those of the processor, all threads together, so that other work beside changes little. The images are
mixtures of two synthetic faces each, moved and lit anew, as JPEGs of 48 px in one tar archive, a folder a class; every
number is of a process of its own.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from src.benchmarks.measure import peak_memory
from src.data.audit.audit import audit
from src.data.faces.generator import draw_face
from src.data.selection.near_duplicates import find_near_duplicates, fingerprints
from src.data.store.packed_store import PackedStore
from src.data.vocabulary import CANONICAL
from src.utils.paths import ROOT
from tests.cli.test_cli import environment
from tests.helpers.image_files import build

N_SYNTHETIC, SIDE, SHIFT = 4000, 48, 4
N_IMAGES = (10_000, 100_000, 1_000_000)
STAGES = ("prepare", "search", "audit")  # an audit holds a search


def write_archive(path: Path, n: int) -> None:
    """Write an archive of n different images."""
    side = SIDE + 2 * SHIFT
    synthetic = np.stack([cv2.cvtColor(draw_face(7, i, side).image, cv2.COLOR_RGB2GRAY) for i in range(N_SYNTHETIC)])
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for i in range(n):
            content = cv2.imencode(".jpg", _mixture(synthetic, rng))[1].tobytes()
            info = tarfile.TarInfo(f"{CANONICAL[i % 7]}/{i:07d}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _mixture(synthetic: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    first, second = rng.integers(N_SYNTHETIC, size=2)
    weight = rng.uniform(0.3, 0.7)
    y, x = rng.integers(2 * SHIFT + 1, size=2)
    mixed = weight * synthetic[first] + (1 - weight) * synthetic[second][:, :: rng.choice((-1, 1))]
    slope = np.linspace(*rng.uniform(-40, 40, size=2), num=SIDE)
    return np.clip(mixed[y : y + SIDE, x : x + SIDE] + slope, 0, 255).astype(np.uint8)


def measure(stage: str, folder: Path) -> None:
    """Run a stage on what the stages before it left, and print its seconds and the process's memory in GiB as JSON."""
    start = time.process_time()
    if stage == "prepare":
        build("folder", folder / "images.tar", folder).prepare_data()
    else:
        store = PackedStore(next((folder / "cache").glob("folder-*")))
        if stage == "search":
            prints = fingerprints(store)
            start = time.process_time()
            find_near_duplicates(prints)
        else:
            audit(store)
    print(json.dumps({"seconds": time.process_time() - start, "memory": (peak_memory() or 0) / 1024}))


def main() -> None:
    """Measure the numbers of images asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("numbers", nargs="*", type=int, default=N_IMAGES)
    parser.add_argument("--stage", choices=STAGES, help="one stage alone, in this process")
    args = parser.parse_args()
    if args.stage:
        measure(args.stage, args.folder)
        return
    print("| images | stage | seconds | time an image | memory at most | an image |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in args.numbers:
        folder = args.folder.resolve() / str(n)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "images.tar").exists():
            write_archive(folder / "images.tar", n)
        for stage in STAGES:
            command = [sys.executable, "-m", "tests.helpers.growth", str(folder), "--stage", stage]
            done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
            used = json.loads(done.stdout.splitlines()[-1])
            seconds, memory = used["seconds"], used["memory"]
            print(
                f"| {n:,} | {stage} | {seconds:,.1f} | {1e6 * seconds / n:.0f} us | {memory:.2f} GiB | "
                f"{memory * 2**20 / n:.1f} KiB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
