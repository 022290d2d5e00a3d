"""Tests of going on from checkpoints that come from strangers, or were written by a training that went wrong."""

import shutil

import pytest
import torch

from src.engine.fit import fit_and_test
from src.utils.errors import ConfigError
from tests.helpers.running import read_checkpoint, tiny_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("finished")
    fit_and_test(tiny_config(run_dir, data_dir, "trainer.max_epochs=1", "test=false"))
    return run_dir


def test_a_training_does_not_go_on_from_the_hub(tmp_path, data_dir):
    with pytest.raises(
        ConfigError, match=r"ckpt_path=hf://me/model: .* start from them with backbone\.weights=hf://me"
    ):
        fit_and_test(tiny_config(tmp_path, data_dir, "ckpt_path=hf://me/model"))


@pytest.fixture
def tampered(finished, tmp_path):
    """Return a function that writes a run whose last checkpoint was changed by a function."""

    def write(change):
        run_dir = tmp_path / "stranger"
        shutil.copytree(finished, run_dir)
        checkpoint = read_checkpoint(run_dir)
        change(checkpoint)
        torch.save(checkpoint, run_dir / "checkpoints" / "last.ckpt")
        return run_dir

    return write


@pytest.mark.parametrize(("protocol", "elsewhere"), [("", True), ("local://", False), ("file::", True)])
def test_a_checkpoint_that_names_a_folder_removes_nothing(tampered, tmp_path, data_dir, caplog, protocol, elsewhere):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("three years")

    def name_it(checkpoint):
        for state in checkpoint["callbacks"].values():
            if "best_model_path" in state:
                state.update(best_model_path=f"{protocol}{thesis}", kth_best_model_path=f"{protocol}{thesis}")
                state["best_k_models"] = {f"{protocol}{thesis}": torch.tensor(-1.0)} if state["best_k_models"] else {}

    stranger = tampered(name_it)
    run_dir = tmp_path / "own" if elsewhere else stranger
    options = ["trainer.max_epochs=2", "test=false", f"ckpt_path={stranger}"]
    fit_and_test(tiny_config(run_dir, data_dir, *options))
    assert (thesis / "chapter.txt").read_text() == "three years"
    assert caplog.text.count(f"names {protocol}{thesis}; expected best.ckpt or last.ckpt") == 2
    assert sorted(path.name for path in (run_dir / "checkpoints").glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


PLACES = {
    "state_dict.backbone.conv1.weight": lambda checkpoint: checkpoint["state_dict"]["backbone.conv1.weight"],
    "optimizer_states.0.state.0.exp_avg": lambda checkpoint: checkpoint["optimizer_states"][0]["state"][0]["exp_avg"],
}


@pytest.mark.parametrize("place", PLACES)
def test_a_training_that_diverged_does_not_go_on(tampered, data_dir, place):
    stranger = tampered(lambda checkpoint: PLACES[place](checkpoint)[0].fill_(float("nan")))
    before = (stranger / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(ConfigError, match=f"last.ckpt has NaN or infinite values in {place}"):
        fit_and_test(tiny_config(stranger, data_dir, "trainer.max_epochs=2", "ckpt_path=last"))
    assert (stranger / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_checkpoint_that_names_a_file_copies_nothing(tampered, tmp_path, data_dir):
    secret = tmp_path / "id_rsa"
    secret.write_text("private")

    def name_it(checkpoint):
        for state in checkpoint["callbacks"].values():
            if "best_model_path" in state:
                # No epoch beats it, and takes its place.
                state.update(dirpath=str(tmp_path), best_model_path=str(secret), best_model_score=torch.tensor(2.0))

    options = ["trainer.max_epochs=2", "test=false", f"ckpt_path={tampered(name_it)}"]
    fit_and_test(tiny_config(tmp_path / "own", data_dir, *options))
    assert not list((tmp_path / "own").rglob("id_rsa"))


STRANGE = {
    "no loops": lambda checkpoint: checkpoint.pop("loops"),
    "a list of optimizers": lambda checkpoint: checkpoint.update(optimizer_states=[{"state": [], "param_groups": {}}]),
    "schedules": lambda checkpoint: checkpoint.update(lr_schedulers=[3]),
    "epoch": lambda checkpoint: checkpoint.update(epoch="first"),
    "callbacks": lambda checkpoint: checkpoint.update(callbacks=[1]),
    "training options": lambda checkpoint: checkpoint.update(training_options=[1]),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_checkpoint_of_another_making_is_refused(tampered, tmp_path, data_dir, change):
    stranger = tampered(change)
    options = ["trainer.max_epochs=2", "test=false", f"ckpt_path={stranger}"]
    with pytest.raises(ConfigError, match=r"ckpt_path=.*last\.ckpt\) (cannot be gone on from|is broken)"):
        fit_and_test(tiny_config(tmp_path / "own", data_dir, *options))
