"""Several processes on a CPU learn what one learns."""

import json
import os
import socket
import subprocess
import sys

import pytest

from src.data.datamodule import StoreDataModule
from src.data.datasets.synthetic import SyntheticDataModule
from src.utils.paths import ROOT
from tests.cli.test_cli import environment, start
from tests.helpers.running import TINY, read_checkpoint

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


@pytest.mark.slow
def test_two_nodes_write_one_run(data_dir, tmp_path):
    """Each node starts the command once, as a cluster's launcher would; here both are this machine."""
    run, options = tmp_path / "run", ["data.n_train=26", "data.batch_size=4", "trainer.max_epochs=1"]
    options += ["trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", f"data_dir={data_dir}"]
    command = [sys.executable, "-m", "src.train", *SMALL, *options, f"hydra.run.dir={run}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    nodes = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment(**address, NODE_RANK=rank), stderr=subprocess.PIPE, text=True
        )
        for rank in "01"
    ]
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert [text.count("Run directory:") for text in said] == [1, 0]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    rows = (run / "predictions.csv").read_text().splitlines()[1:]
    assert len({row.split(",")[0] for row in rows}) == len(rows) == 21


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
def test_two_processes_test_each_of_3589_images_once(data_dir, tmp_path):
    """On PublicTest, which has as many images as PrivateTest; the last batch differs between the processes."""
    options = ["data=fer2013", f"data.path={os.environ['FER2013_PATH']}", f"data_dir={data_dir}", "test=false"]
    options += ["data.image_size=64", "trainer.limit_train_batches=1", "trainer.max_epochs=1", "data.batch_size=64"]
    small = [o for o in SMALL if not o.startswith("data.n_")]
    run = tmp_path / "run"
    done = start("train", *small, *options, "trainer=ddp_cpu", "trainer.devices=2", f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    rows = (run / "predictions.csv").read_text().splitlines()[1:]
    assert len({row.split(",")[0] for row in rows}) == len(rows) == 3589
    assert json.loads((run / "metrics.json").read_text())["val/n"] == 3589


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_processes_share_the_test_images(monkeypatch, world_size):
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
