"""Measure what a training costs, and how that grows: the tables of docs/scaling.md.

    python -m tests.helpers.scaling <folder> [costs images processes]

Nothing else may run meanwhile. Every row is a training of two epochs on synthetic faces, in the precision that the
machine offers; its speed counts training batches alone, loading included.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from src.utils.paths import ROOT
from tests.cli.test_cli import environment

COMMON = ["trainer=cpu", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "logger=none", "test=false"]
COMMON += ["data.n_val=64", "data.n_test=64", "transform=light", "callbacks.early_stopping=null"]
TINY, FULL = "backbone=emonet_tiny", "backbone=emonet_scratch"
COSTS = {
    "emonet_tiny, 64 px": [TINY, "data.n_train=2048"],
    "emonet_tiny, 128 px": [TINY, "data.n_train=1024", "data.image_size=128"],
    "emonet_scratch, 64 px": [FULL, "data.n_train=512"],
    "emonet_scratch, 64 px, head alone": [FULL, "data.n_train=1024", "backbone.freeze=all", "cache=false"],
    "emonet_scratch, 128 px, batches of 32": [FULL, "data.n_train=128", "data.image_size=128", "data.batch_size=32"],
    "emonet_scratch, 256 px, batches of 8": [FULL, "data.n_train=32", "data.image_size=256", "data.batch_size=8"],
}
IMAGES = {f"{n:,} images": [TINY, f"data.n_train={n}"] for n in (1024, 2048, 8192)}
SHARED = [TINY, "data.n_train=2048", "data.batch_size=32", "trainer=ddp_cpu"]
# Name -> options, nodes, threads a process.
PROCESSES = {
    "1 process, 2 threads": ([TINY, "data.n_train=2048"], 1, 2),
    "1 process, 1 thread": ([TINY, "data.n_train=2048"], 1, 1),
    "2 processes, 1 thread each": ([*SHARED, "trainer.devices=2"], 1, 1),
    "2 nodes, 1 process of 1 thread each": ([*SHARED, "trainer.devices=1", "trainer.num_nodes=2"], 2, 1),
}
TABLES = ("costs", "pictures", "processes")


def train(folder: Path, name: str, options: list[str], n_nodes: int = 1, threads: int = 2) -> None:
    """Train, and print a row: images a second of all processes, seconds of the fit, memory of the largest process."""
    run = folder / "runs" / "".join(c if c.isalnum() else "_" for c in name)
    command = [sys.executable, "-m", "src.train", *COMMON, *options, f"data_dir={folder}", f"hydra.run.dir={run}"]
    nodes = []
    for node in range(n_nodes):
        more = {"NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"} if n_nodes > 1 else {}
        env = environment(OMP_NUM_THREADS=str(threads), **more)
        nodes.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL))
    ends = [os.wait4(node.pid, 0) for node in nodes]
    if any(status for _, status, _ in ends):
        raise SystemExit(f"{name} failed: {' '.join(command)}")
    speed = json.loads((run / "metrics.json").read_text())
    memory = max(usage.ru_maxrss for _, _, usage in ends) / 2**20
    checkpoint = (run / "checkpoints" / "last.ckpt").stat().st_size / 1e6
    rate = speed["fit/images_per_second"]
    print(
        f"| {name} | {rate:,.0f} | {1000 / rate:.2g} ms | {speed['fit/seconds']:.1f} s | {memory:.2f} GiB | "
        f"{checkpoint:.0f} MB |",
        flush=True,
    )


def main() -> None:
    """Measure the tables asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all of them if none is named")
    args = parser.parse_args()
    wanted = args.tables or list(TABLES)
    if unknown := set(wanted) - set(TABLES):
        parser.error(f"no such table: {', '.join(unknown)}")
    print("| | images a second | time an image | whole fit | memory at most | last.ckpt |")
    print("| --- | --- | --- | --- | --- | --- |")
    for table, rows in (("costs", COSTS), ("pictures", IMAGES)):
        for name, options in rows.items() if table in wanted else ():
            train(args.folder.resolve(), name, options)
    for name, (options, n_nodes, threads) in PROCESSES.items() if "processes" in wanted else ():
        train(args.folder.resolve(), name, options, n_nodes, threads)


if __name__ == "__main__":
    main()
