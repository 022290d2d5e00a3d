"""Data suite: from the source to a ready store, opening it again, and serving batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from src.benchmarks.measure import Row, compare, peak_memory, scratch_folder, summarize, time_rounds
from src.data.audit.report import open_audit
from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import PackedStore
from src.engine.build import build_data, plain
from src.utils.image_files import write_image

SUITE = "data"
# Images served in a round, as files and from the store.
N_SERVED = 2048
BATCH = 64
# The images of `Compose` that correspond to conf/transform/light.yaml.
LIGHT = transforms.Compose(
    [
        transforms.Resize((64, 64)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomAffine(10, translate=(0.08, 0.08), scale=(0.9, 1.1)),
        transforms.ColorJitter(brightness=0.15, contrast=0.2),
        transforms.ToTensor(),
    ]
)
NONE = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])


def data_suite(cfg: DictConfig) -> list[Row]:
    """Measure the data set of the configuration.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    with scratch_folder() as folder:
        data = build_data(cfg, transform={"name": "none"}, image_size=64, data_dir=folder)
        start = time.perf_counter()
        data.prepare_data()
        open_audit(data.store, data.own_classes)
        seconds = time.perf_counter() - start
        peak = peak_memory()
        note = "" if peak is None else f"peak memory {peak / 1024:.2f} GiB"
        ready = summarize(SUITE, f"{data.name}: source to audited store", [seconds], note)
        path = data.store.path
        opened = time_rounds({"open": lambda: PackedStore(path)}, 9)["open"]
        return [ready, summarize(SUITE, "open the store again", opened), *_serving(cfg, data, Path(folder))]


def _serving(cfg: DictConfig, data: StoreDataModule, folder: Path) -> list[Row]:
    files = _write_files(data, folder / "files")
    rows = []
    for name, compose in (("none", NONE), ("light", LIGHT)):
        ours = build_data(
            cfg, transform=plain(cfg.transforms[name]), image_size=64, data_dir=str(folder), batch_size=BATCH
        )
        loader: DataLoader[Any] = DataLoader(datasets.ImageFolder(str(files), compose), BATCH, shuffle=True)
        rows.append(
            compare(
                SUITE,
                f"serve {N_SERVED} images at 64 px, transform={name}",
                _serve(ours),
                "ImageFolder + Compose",
                _serve_all(loader),
                cfg.rounds,
            )
        )
    return rows


def _write_files(data: StoreDataModule, folder: Path) -> Path:
    """Write the first training images as PNG files in class folders."""
    rows, labels, _ = data.split_rows("train")
    for row_index, label in zip(rows[:N_SERVED], labels[:N_SERVED], strict=True):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image = data.store.image(int(row_index))
        write_image(place / f"{row_index}.png", image)
    return folder


def _serve(data: StoreDataModule) -> Callable[[], None]:
    """Serve float batches of the first training images, as a training would get them."""
    loader = data.train_dataloader()

    def serve() -> None:
        for i, batch in enumerate(loader):
            data.on_after_batch_transfer(batch, 0)
            if (i + 1) * BATCH >= N_SERVED:
                break

    return serve


def _serve_all(loader: Iterable[Any]) -> Callable[[], None]:
    def serve() -> None:
        for images, _ in loader:
            torch.as_tensor(images)

    return serve
