"""How long a user waits before something happens, on a machine that has nothing else to do: `make test-slow`."""

import os
import time

import pytest
from pytorch_lightning import Callback

from tests.cli.test_cli import start

pytestmark = pytest.mark.slow


class FirstStep(Callback):
    """Prints the time after the first training step, on the clock that all processes share."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 1:
            print(f"first step: {time.clock_gettime(time.CLOCK_MONOTONIC)}", flush=True)


@pytest.mark.parametrize(
    "entry", ["train", "eval", "predict", "compare", "explain", "export", "app", "benchmark", "download"]
)
def test_help_comes_within_three_seconds(entry):
    began = time.monotonic()
    done = start(entry, "--help")
    took = time.monotonic() - began
    print(f"{entry} --help: {took:.1f} s")
    assert done.returncode == 0, done.stderr
    assert took < 3


@pytest.mark.parametrize("backbone", ["emonet_fer", "emonet_tiny", "emonet_scratch"])
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
def test_the_first_step_comes_within_fifteen_seconds(tmp_path, data_dir, backbone):
    options = ["data=fer2013", f"data.path={os.environ['FER2013_PATH']}", f"data_dir={data_dir}"]
    prepared = start("prepare", *options)
    assert prepared.returncode == 0, prepared.stderr
    options += [f"backbone={backbone}", "data.image_size=64", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    options += [
        "trainer.limit_val_batches=1",
        "test=false",
        "+callbacks.first._target_=tests.cli.test_startup.FirstStep",
    ]
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    # As a user has it, with Weights & Biases, offline, and all cores.
    done = start("train", *options, f"hydra.run.dir={tmp_path / 'run'}", OMP_NUM_THREADS="")
    assert done.returncode == 0, done.stderr
    took = float(done.stdout.split("first step: ")[1].split()[0]) - began
    print(f"{backbone}: {took:.1f} s to the first step")
    assert took < 15
