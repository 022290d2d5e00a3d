import json
import shutil

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from src.evaluation import test as run_evaluation
from src.models.emonet import EmoNet
from src.training import fit_and_test
from src.utils.errors import ConfigError
from src.utils.run_directory import environment, update_provenance, write_config
from tests.running import TINY_DATA, compose_config, tiny_config

IGNORED = ("fit/", "val/", "model/", "test/loss")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("trained")
    cfg = tiny_config(run_dir, data_dir, "data.draw_gray=true", "head=multihead")
    write_config(run_dir, cfg)
    update_provenance(run_dir, **environment([], {"data": "synthetic"}))
    return run_dir, fit_and_test(cfg)


def evaluation_config(tmp_path, data_dir, *overrides):
    common = ["trainer=cpu", "trainer.enable_progress_bar=false", f"run_dir={tmp_path}", f"data_dir={data_dir}"]
    return compose_config("eval", *common, *overrides)


@pytest.mark.parametrize("file", ["", "checkpoints/best.ckpt", "checkpoints/best.safetensors"])
def test_it_gives_the_numbers_of_the_training(trained, tmp_path, data_dir, file):
    run_dir, expected = trained
    data = [*TINY_DATA, "data=synthetic", "data.draw_gray=true"]
    results = run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={run_dir / file}", *data))
    assert results["test/n"] == 21
    compared = [key for key in expected if not key.startswith(IGNORED)]
    assert len(compared) > 15
    for key in compared:
        assert results[key] == pytest.approx(expected[key], abs=1e-6), key
    assert (tmp_path / "metrics.json").exists()
    ours, theirs = (pd.read_csv(folder / "predictions.csv") for folder in (tmp_path, run_dir))
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-6)


def test_without_data_it_takes_the_data_of_the_run(trained, tmp_path, data_dir):
    run_dir, expected = trained
    results = run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={run_dir}", "data.batch_size=5"))
    assert results["test/accuracy"] == pytest.approx(expected["test/accuracy"])
    assert results["test/n"] == 21


def test_another_head_is_refused(trained, tmp_path, data_dir):
    with pytest.raises(ConfigError, match="head=linear does not fit"):
        run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={trained[0]}", "head=linear"))


def test_without_a_model_it_says_what_to_give(tmp_path, data_dir):
    with pytest.raises(ConfigError, match="set ckpt_path"):
        run_evaluation(evaluation_config(tmp_path, data_dir))


@pytest.mark.parametrize(("n", "classes", "unmapped"), [(8, 8, False), (5, 5, True)])
def test_official_weights_need_no_checkpoint(tmp_path, data_dir, n, classes, unmapped):
    torch.manual_seed(0)
    weights = tmp_path / f"emonet_{n}.pth"
    torch.save({f"module.{k}": v for k, v in EmoNet(n).state_dict().items()}, weights)
    options = [f"backbone=emonet_{n}", "head=emonet", f"backbone.weights={weights}", "data.image_size=64"]
    data = ["data.n_train=8", "data.n_val=8", "data.n_test=21"]
    results = run_evaluation(evaluation_config(tmp_path, data_dir, *options, *data))
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert results["test/n"] + results["test/n_unmapped"] == 21
    assert (results["test/n_unmapped"] > 0) == unmapped
    assert len(table) == results["test/n"]
    assert {"valence", "arousal"} <= set(table)
    if classes == 8:  # no drawn face shows contempt: it is never predicted
        assert (table["contempt"] == 0).all()
        assert "contempt" not in set(table["prediction"])
    assert json.loads((tmp_path / "metrics.json").read_text())["test/n"] == len(table)


def test_a_run_directory_cannot_name_code(trained, tmp_path, data_dir):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    planted = {"_target_": "shutil.copyfile", "src": str(copy / "config.yaml"), "dst": str(tmp_path / "stolen")}
    config = OmegaConf.load(copy / "config.yaml")
    for key in ("name", "sampler", "max_bad"):
        config.data[key] = planted
    OmegaConf.save(config, copy / "config.yaml")
    run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={copy}"))
    assert not (tmp_path / "stolen").exists()
