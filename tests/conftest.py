"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from filelock import FileLock

from src.data.store.packed_store import PackedStore, Record  # first of all: it sets OpenMP up
from src.data.store.store_writer import write_store
from tests.helpers.hub import Hub, read_environment

if TYPE_CHECKING:
    from src.data.datamodule import StoreDataModule  # it imports Lightning

MakeStore = Callable[[Sequence[Record]], PackedStore]


def pytest_configure() -> None:
    """Let the tests see SIGHUP even where `nohup`, which starts a suite in the background, has it ignored."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    """Give every test the same random numbers, and leave a core to others."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Return a function that packs records into a store."""
    return lambda records: write_store(tmp_path / "store", records, max_bad=0)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A stand-in for the Hugging Face Hub, to which huggingface_hub is led; nobody is logged in."""
    from src.runs.hub import _find

    with Hub() as server, pytest.MonkeyPatch.context() as patch:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        for key, value in server.environment(tmp_path_factory.mktemp("hub")).items():
            patch.setenv(key, value)
        patch.delenv("HF_TOKEN", raising=False)
        read_environment()
        yield server
        server.shutdown()
        _find.cache_clear()
    read_environment()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A tiny model and its ONNX files, see `tests.exporting.tiny.export_tiny`."""
    from tests.exporting.tiny import export_tiny  # the exporter takes seconds to import

    folder = shared_folder(tmp_path_factory) / "exported"
    with FileLock(f"{folder}.lock"):
        return export_tiny(folder)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers of pytest-xdist see: one makes what the others wait for."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches shared by all tests: the synthetic faces are made once."""
    folder = shared_folder(tmp_path_factory) / "data"
    folder.mkdir(exist_ok=True)
    return folder


def _train(run_dir: Path, data_dir: Path, *options: str) -> Path:
    """Train a small EmoNet on synthetic faces, once for all workers: classes, valence, arousal and landmarks."""
    from src.engine.build import plain
    from src.engine.fit import fit_and_test
    from src.runs.directory import environment, update_provenance, write_config
    from tests.helpers.running import tiny_config

    with FileLock(f"{run_dir}.lock"):
        if (run_dir / "metrics.json").exists():
            return run_dir
        torch.set_num_threads(1)
        run_dir.mkdir(exist_ok=True)
        data = ["data.n_val=140", "data.n_test=64", "data.batch_size=32", "transform=flip"]
        model = ["backbone.width=32", "backbone.landmarks=true", "head.valence_arousal=true", "auxiliary_weight=2"]
        steps = ["optimizer.lr=5e-3", "scheduler=one_cycle", "trainer.precision=32-true"]
        cfg = tiny_config(run_dir, data_dir, *data, *model, *steps, *options)
        write_config(run_dir, plain(cfg))
        update_provenance(run_dir, **environment([], {"data": "synthetic"}))
        fit_and_test(cfg)
    return run_dir


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The run directory of a small EmoNet that tells synthetic faces apart. It takes a minute: for slow tests."""
    return _train(shared_folder(tmp_path_factory) / "synthetic", data_dir, "data.n_train=1200", "trainer.max_epochs=12")


@pytest.fixture(scope="session")
def brief_run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The same after a moment, with everything that a run has but the knowledge."""
    return _train(shared_folder(tmp_path_factory) / "brief", data_dir, "data.n_train=128", "trainer.max_epochs=2")


@pytest.fixture
def fer2013(data_dir: Path) -> StoreDataModule:
    """The real data set, packed once, if FER2013_PATH says where it is."""
    from src.data.datasets.fer2013 import Fer2013DataModule

    path = os.environ.get("FER2013_PATH")
    if not path:
        pytest.skip("set FER2013_PATH to fer2013.csv or its archive")
    return Fer2013DataModule("fer2013", path, str(data_dir), image_size=64, transform={"name": "none"}, seed=0)


@pytest.fixture
def public_test(fer2013: StoreDataModule) -> SimpleNamespace:
    """FER2013's PublicTest as the shipped weights get it: images, uint8 (3589, 3, 64, 64), and labels, (3589,)."""
    from src.models.weights import load_weights
    from src.utils.paths import ROOT

    shipped = load_weights(ROOT / "pretrained" / "emonet_fer_small.safetensors").spec
    data = fer2013.with_classes(shipped.class_names)
    rows, labels, _ = data.split_rows("val")
    images = (data.plain_images(rows)["image"] * 255).round().to(torch.uint8)
    return SimpleNamespace(images=images, labels=torch.from_numpy(labels))
