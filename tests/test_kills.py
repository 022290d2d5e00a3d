"""Runs that are killed and resumed."""

import errno
import json
from functools import partial
from itertools import product

import pytest
import torch

from src.engine.build import build_data, plain
from src.engine.checkpoint_io import AtomicCheckpointIO
from src.engine.fit import fit_and_test
from src.runs.directory import hold_directory, release_directory
from src.utils.errors import ConfigError
from tests.cli.test_cli import environment, fork
from tests.helpers import kills
from tests.helpers.forking import run_forked
from tests.helpers.full_disk import fill_disk, full_disk
from tests.helpers.image_files import write
from tests.helpers.running import TINY, read_checkpoint, tiny_config


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_random_kills_leave_no_trace(tmp_path, workers):
    assert kills.run(tmp_path, 10, workers, seed=workers) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_prepare_leaves_nothing_half_made(tmp_path, seed):
    for key, (name, i) in enumerate(product(("happy", "sad", "fear"), range(400))):
        write(tmp_path / "mine" / name / f"{i}.png", key=key)

    def prepare(folder):
        return "src.prepare", ["data=folder", f"data.path={tmp_path / 'mine'}", f"data_dir={folder}"]

    straight, killed = kills.repeat(prepare, tmp_path, 8, seed)
    assert len(kills.same_files(straight, killed, "cache/folder-*/*")) >= 3
    assert not [path.name for path in (killed / "cache").iterdir() if "tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_features_are_gone_on_with(tmp_path, data_dir, seed):
    """Trainings on cached features, killed while these are computed, too."""
    images = ["data.n_train=300", "data.n_val=28", "data.n_test=35", "data.batch_size=8", "backbone=emonet_fer_small"]

    def train(folder):
        options = [f"data_dir={folder}", f"hydra.run.dir={folder / 'run'}", "ckpt_path=auto", "logger=none"]
        return "src.train", [*images, *options, "trainer=cpu", "trainer.precision=32-true", "cache=true"]

    straight, killed = kills.repeat(train, tmp_path, 6, seed)
    assert kills.same_files(straight, killed, "run/predictions.csv")
    assert kills.same_files(straight, killed, "cache/features/*/*.bin")
    results = [json.loads((folder / "run" / "metrics.json").read_text()) for folder in (straight, killed)]
    assert results[0]["test/accuracy"] == results[1]["test/accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_sweep_is_gone_on_with(tmp_path, data_dir, seed):
    tiny = [option for option in TINY if not option.startswith("logger")]

    def sweep(folder):
        options = [f"data_dir={data_dir}", f"hydra.sweep.dir={folder}", "sweep.resume=true", "logger=csv"]
        return "src.train", ["-m", *tiny, *options, "head=linear,multihead", "seed=0,1"]

    straight, killed = kills.repeat(sweep, tmp_path, 6, seed)
    assert len(kills.same_files(straight, killed, "*/predictions.csv")) == 4
    assert len(list(killed.glob("*/metrics.json"))) == 4


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO(tmp_path).save_checkpoint({"x": torch.arange(3)}, path)
    before = path.read_bytes()
    with full_disk(10_000), pytest.raises(OSError) as caught:
        AtomicCheckpointIO(tmp_path).save_checkpoint({"x": torch.zeros(100_000)}, path)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_said_and_the_run_goes_on_with_room(tmp_path, data_dir):
    cfg = tiny_config(tmp_path, data_dir)
    build_data(cfg, transform=plain(cfg.transform), image_size=64).prepare_data()  # there is room for the faces
    options = [*TINY, f"data_dir={data_dir}", f"hydra.run.dir={tmp_path / 'run'}", "ckpt_path=auto"]

    def start_with(limit):
        return run_forked("src.train", *options, env=environment(), before=partial(fill_disk, limit))

    full = start_with(60_000)  # less than a checkpoint
    assert full.returncode == 1
    assert "no space is left" in full.stderr
    assert "Traceback" not in full.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert start_with(-1).returncode == 0


def test_a_run_killed_in_its_test_is_tested(tmp_path, data_dir):
    results = fit_and_test(tiny_config(tmp_path, data_dir))
    before = read_checkpoint(tmp_path)
    (tmp_path / "metrics.json").unlink()
    again = fit_and_test(tiny_config(tmp_path, data_dir, "ckpt_path=auto"))
    assert read_checkpoint(tmp_path)["global_step"] == before["global_step"]
    assert {k: v for k, v in again.items() if k[:4] != "fit/"} == {k: v for k, v in results.items() if k[:4] != "fit/"}


def test_early_stopping_is_not_forgotten(tmp_path, data_dir):
    options = ["trainer.max_epochs=8", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options))
    stopped = read_checkpoint(tmp_path)["epoch"]
    assert stopped < 7
    (tmp_path / "metrics.json").unlink()
    fit_and_test(tiny_config(tmp_path, data_dir, *options, "ckpt_path=auto"))
    assert read_checkpoint(tmp_path)["epoch"] == stopped


def test_auto_starts_afresh_and_a_truncated_checkpoint_is_refused_and_kept(tmp_path, data_dir):
    fit_and_test(tiny_config(tmp_path, data_dir, "trainer.max_epochs=1", "ckpt_path=auto"))
    assert read_checkpoint(tmp_path)["epoch"] == 0
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="truncated"):
        fit_and_test(tiny_config(tmp_path, data_dir, "ckpt_path=last"))
    assert path.stat().st_size == 1000
    assert json.loads((tmp_path / "metrics.json").read_text())["test/n"] == 21


def test_a_directory_in_use_is_refused(tmp_path, data_dir):
    run = tmp_path / "run"
    run.mkdir()
    assert hold_directory(run)
    try:
        done = fork("train", *TINY, f"data_dir={data_dir}", f"hydra.run.dir={run}")
    finally:
        release_directory(run)
    assert done.returncode == 1
    assert "is in use by another process" in done.stderr
    assert [p.name for p in run.iterdir()] == [".lock"]
