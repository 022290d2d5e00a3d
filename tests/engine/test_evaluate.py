import json
import shutil
from contextlib import nullcontext

import cv2
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from src.data.faces.generator import draw_face
from src.engine.build import plain
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.fit import fit_and_test
from src.engine.load import with_data_of_run
from src.models.emonet import EmoNet
from src.runs.directory import environment, update_provenance, write_config
from src.utils.errors import ConfigError
from tests.helpers.running import NO_FIGURES, TINY_DATA, compose_config, tiny_config

IGNORED = ("fit/", "val/", "model/", "test/loss")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("trained")
    cfg = tiny_config(run_dir, data_dir, "data.draw_gray=true", "head=multihead")
    write_config(run_dir, plain(cfg))
    update_provenance(run_dir, **environment([], {"data": "synthetic"}))
    return run_dir, fit_and_test(cfg)


def evaluation_config(tmp_path, data_dir, *overrides):
    tmp_path.mkdir(exist_ok=True)
    common = ["trainer=cpu", "trainer.enable_progress_bar=false", f"run_dir={tmp_path}", f"data_dir={data_dir}"]
    return compose_config("eval", *common, *NO_FIGURES, *overrides)


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


def test_seed_folder_and_transform_are_not_those_of_the_run(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    config = OmegaConf.load(copy / "config.yaml")
    assert config.data.transform.name == "flip"
    changed = OmegaConf.merge(config, {"data": {"_recursive_": True, "batch_size": 3}})
    OmegaConf.save(changed, copy / "config.yaml")
    cfg = evaluation_config(tmp_path, "elsewhere", f"ckpt_path={copy}", "seed=5")
    before, given = cfg.copy(), cfg
    cfg = with_data_of_run(given)
    assert given == before
    assert (cfg.data.seed, cfg.data.data_dir, cfg.data.transform) == (5, "elsewhere", None)
    assert (cfg.data._recursive_, cfg.data.batch_size, cfg.data.draw_gray) == (False, 3, True)


def test_values_of_the_run_are_checked_like_those_of_the_command_line(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    OmegaConf.save(
        OmegaConf.merge(OmegaConf.load(copy / "config.yaml"), {"data": {"half": "third"}}), copy / "config.yaml"
    )
    with pytest.raises(ConfigError, match=r"data\.half=third; expected one of null, first, second"):
        with_data_of_run(evaluation_config(tmp_path, "elsewhere", f"ckpt_path={copy}"))


def test_a_data_set_from_outside_is_asked_for(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    update_provenance(copy, choices={"data": "mine"})
    with pytest.raises(ConfigError, match=r"run was trained on data=mine, .*Name the data set: data=mine with"):
        with_data_of_run(evaluation_config(tmp_path, "elsewhere", f"ckpt_path={copy}"))


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
    torch.save({f"module.{k}": v for k, v in EmoNet(n, width=16).state_dict().items()}, weights)
    options = [f"backbone=emonet_{n}", "backbone.width=16", f"backbone.weights={weights}"]
    options += ["head=emonet", "data.image_size=64"]
    data = ["data.n_train=8", "data.n_val=8", "data.n_test=21"]
    results = run_evaluation(evaluation_config(tmp_path, data_dir, *options, *data))
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert results["test/n"] + results["test/n_unmapped"] == 21
    assert (results["test/n_unmapped"] > 0) == unmapped
    assert len(table) == results["test/n"]
    assert {"valence", "arousal"} <= set(table)
    if classes == 8:  # no synthetic face shows contempt: it is never predicted
        assert (table["contempt"] == 0).all()
        assert "contempt" not in set(table["prediction"])
    assert json.loads((tmp_path / "metrics.json").read_text())["test/n"] == len(table)


def write_faces(root, classes, n=3):
    """Write n gray faces per class and split, in folders with the names of the classes."""
    for split in ("train", "val", "test"):
        for c, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                face = draw_face(7, 100 * c + 10 * len(split) + i, 64, expression=name, grayscale=True)
                cv2.imwrite(str(root / split / name / f"{i}.png"), face.image[..., 0])
    return ["data=folder", f"data.path={root}"]


SEVEN = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"]
VOCABULARIES = {
    "7 on 7": (SEVEN, []),
    "7 on 8": ([*SEVEN, "contempt"], ["The model lacks contempt: such images are left out (test/n_unmapped = 3)"]),
    "7 on 5": (["neutral", "happy", "sad", "surprise", "angry"], ["lacks fear, disgust: these probabilities are drop"]),
    "7 on 4": (
        ["neutral", "happy", "sad", "contempt"],
        ["lacks surprise, fear, disgust, angry: these", "The model lacks contempt: such images"],
    ),
}


@pytest.mark.parametrize("case", VOCABULARIES)
def test_seven_classes_on_other_vocabularies(trained, tmp_path, data_dir, caplog, case):
    classes, messages = VOCABULARIES[case]
    options = [f"ckpt_path={trained[0]}", *write_faces(tmp_path / "faces", classes)]
    results = run_evaluation(evaluation_config(tmp_path / "all", data_dir, *options))
    assert [record.levelname for record in caplog.records].count("WARNING") >= len(messages)
    for message in messages:
        assert message in caplog.text
    assert ("lacks" in caplog.text) == bool(messages)
    known = [name for name in classes if name in SEVEN]
    assert results["test/n"] == 3 * len(known)
    assert results["test/n_unmapped"] == 3 * (len(classes) - len(known))
    table = pd.read_csv(tmp_path / "all" / "predictions.csv").set_index("id")
    assert list(table.columns[-7:]) == SEVEN
    assert (table["label"] == [name.split("/")[1] for name in table.index]).all()
    assert set(table["prediction"]) <= set(known)
    assert (table[[name for name in SEVEN if name not in known]] == 0).all(axis=None)
    assert table[SEVEN].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert results["test/accuracy"] == pytest.approx((table["label"] == table["prediction"]).mean())


def test_dropped_probabilities_rescale_the_rest(trained, tmp_path, data_dir):
    few = write_faces(tmp_path / "few", ["neutral", "happy", "sad"])
    every = write_faces(tmp_path / "every", SEVEN)
    tables = []
    for name, data in (("few", few), ("every", every)):
        run_dir = tmp_path / f"run_{name}"
        run_evaluation(evaluation_config(run_dir, data_dir, f"ckpt_path={trained[0]}", *data))
        tables.append(pd.read_csv(run_dir / "predictions.csv").set_index("id"))
    dropped, whole = tables[0], tables[1].loc[tables[0].index]
    kept = whole[["neutral", "happy", "sad"]]
    expected = kept.div(kept.sum(axis=1), axis=0)
    assert dropped[expected.columns].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)
    assert (dropped["prediction"] == expected.idxmax(axis=1)).all()


def test_five_classes_leave_fear_and_disgust_out(trained, tmp_path, data_dir, caplog):
    names = ["neutral", "happy", "sad", "surprise", "angry"]
    copy = relabeled(trained[0], tmp_path / "five.ckpt", names)
    options = [f"ckpt_path={copy}", *write_faces(tmp_path / "faces", SEVEN)]
    results = run_evaluation(evaluation_config(tmp_path / "run", data_dir, *options))
    assert (results["test/n"], results["test/n_unmapped"]) == (15, 6)
    assert "The model lacks fear, disgust: such images are left out (test/n_unmapped = 6)" in caplog.text
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert not set(table["label"]) & {"fear", "disgust"}
    assert list(table.columns[-5:]) == names


def test_labels_are_mapped_by_name_whatever_the_order(trained, tmp_path, data_dir):
    shuffled = ["angry", "sad", "neutral", "disgust", "happy", "fear", "surprise"]
    copy = relabeled(trained[0], tmp_path / "shuffled.ckpt", shuffled)
    data = [*TINY_DATA, "data=synthetic", "data.draw_gray=true"]
    results = run_evaluation(evaluation_config(tmp_path / "run", data_dir, f"ckpt_path={copy}", *data))
    for key, value in trained[1].items():
        if key.startswith("test/") and key not in ("test/loss", "test/ece_ci95") and not key.endswith("_ci95"):
            assert results[key] == pytest.approx(value, abs=1e-5), key
    ours, theirs = (pd.read_csv(folder / "predictions.csv") for folder in (tmp_path / "run", trained[0]))
    pd.testing.assert_frame_equal(ours[theirs.columns], theirs, atol=1e-5)


def relabeled(run_dir, path, names):
    """Write a checkpoint of the same model whose outputs are some of its classes, in another order."""
    checkpoint = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    rows = [checkpoint["model_spec"]["class_names"].index(name) for name in names]
    checkpoint["model_spec"]["class_names"] = names
    for key, value in checkpoint["state_dict"].items():
        if key.startswith("head.") and value.shape[:1] == (7,):
            checkpoint["state_dict"][key] = value[rows]
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize(("key", "is_read"), [("name", True), ("sampler", False), ("max_bad", False)])
def test_a_run_directory_cannot_name_code(trained, tmp_path, data_dir, key, is_read):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    planted = {"_target_": "shutil.copyfile", "src": str(copy / "config.yaml"), "dst": str(tmp_path / "stolen")}
    config = OmegaConf.load(copy / "config.yaml")
    config.data[key] = planted
    OmegaConf.save(config, copy / "config.yaml")
    with pytest.raises(ConfigError, match=rf"data\.{key}=") if is_read else nullcontext():
        run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={copy}"))
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("value", ["${oc.env:HOME}", ["a", {"b": "${oc.env:HOME}"}]])
def test_a_run_directory_cannot_read_the_environment(trained, tmp_path, data_dir, value):
    copy = tmp_path / "run"
    shutil.copytree(trained[0], copy)
    config = OmegaConf.load(copy / "config.yaml")
    config.data.path = value
    OmegaConf.save(config, copy / "config.yaml")
    choices = {"choices": {"data": "folder"}}
    (copy / "provenance.json").write_text(json.dumps(choices))
    cfg = evaluation_config(tmp_path, data_dir, f"ckpt_path={copy}")
    with pytest.raises(ConfigError, match=r"data.path holds an interpolation .*data=\.\.\."):
        run_evaluation(cfg)
    run_evaluation(evaluation_config(tmp_path, data_dir, f"ckpt_path={copy}", "data=synthetic", *TINY_DATA))
