"""Measure shuffled epochs over a store that is larger than the memory: lines of docs/scaling.md.

    python -m tests.helpers.large_store <folder> [--gib 40] [--workers 2]

The images are noise of 224 x 224 in color; what the system has cached of them is dropped before each step.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import PackedStore, Record
from src.data.vocabulary import CANONICAL

SIDE = 224
BYTES = SIDE * SIDE * 3


class Noise(StoreDataModule):
    """Images of noise."""

    generated = True
    source_classes = CANONICAL[:7]

    def __init__(self, n: int, **options: Any) -> None:
        super().__init__("noise", None, **options)
        self.n = n

    def store_options(self) -> dict[str, Any]:
        return {"n": self.n}

    def records(self) -> Iterator[Record]:
        rng = np.random.default_rng(0)
        for i in range(self.n):
            image = np.frombuffer(rng.bytes(BYTES), np.uint8).reshape(SIDE, SIDE, 3)
            yield Record(str(i), "val" if i % 100 == 0 else "train", CANONICAL[i % 7], image)


def drop_cache(path: Path) -> None:
    """Let the system forget what it has cached of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> float:
    """Return the GiB that this process and its children have to themselves: pages of the store are not."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


def serve_epoch(data: StoreDataModule) -> None:
    """Take every training image once, as a training would."""
    data.setup("fit")
    n = largest = 0.0
    for batch in data.train_dataloader():
        n += len(batch["label"])
        largest = max(largest, memory())
    print(f"  {n:,.0f} images, at most {largest:.2f} GiB of its own", flush=True)


def timed(name: str, step: Callable[[], Any]) -> None:
    start = time.perf_counter()
    step()
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    """Write the store unless it is there, open it, and serve an epoch in a random order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=40)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    options = {"data_dir": str(args.folder), "transform": {"name": "flip"}, "num_workers": args.workers}
    data = Noise(int(args.gib * 2**30 / BYTES), **options)
    timed("prepare, and open", data.prepare_data)
    (pixels,) = args.folder.glob("cache/noise-*/pixels.bin")
    drop_cache(pixels)
    timed("open", lambda: PackedStore(pixels.parent))
    drop_cache(pixels)
    timed("epoch", lambda: serve_epoch(data))


if __name__ == "__main__":
    main()
