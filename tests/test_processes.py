"""Several processes on a CPU learn what one learns."""

import json

import pytest

from src.data.datamodule import StoreDataModule
from src.data.synthetic import SyntheticDataModule
from tests.running import TINY, read_checkpoint
from tests.test_cli import start

SMALL = [o for o in TINY if o.split("=")[0] not in ("trainer", "data.n_train", "data.batch_size", "trainer.max_epochs")]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(data_dir, tmp_path):
    """20 steps with the same global batches, where the head has no batch-norm and the backbone is frozen."""
    options = [*SMALL, f"data_dir={data_dir}", "data.n_train=160", "trainer.max_epochs=1", "data.dedup=false"]
    options += ["backbone.freeze=all", "head=self_attention", "transform=none", "trainer.precision=32-true"]
    # Adam would blow rounding errors up: the gradients of queries and keys start at zero.
    options += ["optimizer=sgd", "optimizer.lr=0.001", "scheduler=constant"]
    for name, more in {
        "one": ["trainer=cpu", "data.batch_size=8"],
        "two": ["trainer=ddp_cpu", "trainer.devices=2", "data.batch_size=4"],
    }.items():
        done = start("train", *options, *more, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    one, two = (read_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 20
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["val/loss"] == pytest.approx(metrics[1]["val/loss"], abs=1e-4)
    assert metrics[0]["test/accuracy"] == metrics[1]["test/accuracy"]


@pytest.mark.slow
def test_a_sweep_of_two_process_jobs_ends_when_one_fails(data_dir, tmp_path):
    sweep = tmp_path / "sweep"
    options = [*SMALL, f"data_dir={data_dir}", "data.n_train=26", "data.batch_size=8", "trainer.max_epochs=1"]
    options += ["trainer=ddp_cpu", "trainer.devices=2", "head=linear,linear_bottleneck", "head.tap=emotion"]
    done = start("train", "-m", *options, f"hydra.sweep.dir={sweep}")
    assert done.returncode == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep"]
    folders = ["0_head-linear", "1_head-linear_bottleneck"]
    assert sorted(p.parent.name for p in sweep.glob("*/status.json")) == folders
    states = [json.loads((sweep / name / "status.json").read_text())["state"] for name in folders]
    assert states == ["finished", "failed"]
    assert done.stderr.count(f"Sweep directory: {sweep}") == 1
    assert "1 of 2 jobs did not finish" in done.stderr


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_processes_share_the_test_pictures(monkeypatch, world_size):
    """3,589, FER2013's number, is divisible by none of these; a sampler of torch would repeat some."""
    served = []
    for rank in range(world_size):
        monkeypatch.setattr(StoreDataModule, "_process", lambda self, rank=rank: (rank, world_size))
        monkeypatch.setattr(StoreDataModule, "_dataset", lambda self, split: range(3589))
        monkeypatch.setattr(StoreDataModule, "_loader", lambda self, dataset, batches: batches)
        module = SyntheticDataModule.__new__(SyntheticDataModule)
        module.batch_size = 64
        served += [index for batch in module._evaluation_loader("test") for index in batch]
    assert sorted(served) == list(range(3589))
