"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.data.store import PackedStore, Record, write_store  # first of all: it sets OpenMP up

MakeStore = Callable[[Sequence[Record]], PackedStore]


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


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A tiny model and its ONNX files, see `tests.exporting.tiny.export_tiny`."""
    from tests.exporting.tiny import export_tiny  # the exporter takes seconds to import

    return export_tiny(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches shared by all tests: the faces are drawn once."""
    return tmp_path_factory.mktemp("data")
