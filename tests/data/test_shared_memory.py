from types import SimpleNamespace

import pytest

from src.data import shared_memory
from src.data.shared_memory import check_shared_memory
from src.engine.fit import fit_and_test
from src.utils.errors import ConfigError
from tests.helpers.running import tiny_config


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A container's 1 MB."""
    monkeypatch.setattr(shared_memory, "PLACE", tmp_path)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))


def test_what_fits_is_let_through(small):
    check_shared_memory(0, 2**30)
    check_shared_memory(2, 2**20 // 12)


def test_where_there_is_no_such_place_nothing_is_asked(small, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "PLACE", tmp_path / "nowhere")
    check_shared_memory(2, 2**30)


def test_too_little_of_it_ends_a_training_with_what_to_do(small, tmp_path, data_dir):
    with pytest.raises(ConfigError, match=r"data.num_workers=8 needs 4 MB .* has 1 MB free.*--shm-size.*num_workers=0"):
        fit_and_test(tiny_config(tmp_path / "run", data_dir, "data.num_workers=8"))
