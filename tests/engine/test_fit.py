import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import open_dict
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from src.engine.build import build_data, plain, result_table
from src.engine.fit import build_loss, fit_and_test, new_model
from src.engine.load import starting_weights
from src.models.emonet import EmoNet
from src.utils.errors import ConfigError
from tests.helpers.image_files import write
from tests.helpers.running import read_checkpoint, tiny_config

CLASSES = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"]
SMALL = ["data.n_train=8", "data.n_val=7", "data.n_test=7", "trainer.max_epochs=1"]


def assert_equal_states(a, b, where=""):
    """Compare two checkpoints bit for bit, but for paths and clocks."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("dirpath", "best_model_path", "best_k_models", "kth_best_model_path", "last_model_path"):
                assert_equal_states(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_states(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def learned(checkpoint):
    """Everything a resumed run must share with the straight one."""
    kept = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "current_model_state")
    states = {key: checkpoint[key] for key in kept if key in checkpoint}
    histories = [c["history"] for c in checkpoint["callbacks"].values() if "history" in c]
    stopping = [c for name, c in checkpoint["callbacks"].items() if name.startswith("EarlyStopping")]
    return {**states, "histories": histories, "stopping": stopping}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("finished")
    results = fit_and_test(tiny_config(run_dir, data_dir, "head.valence_arousal=true", figures=True))
    return run_dir, results


def test_run_directory_is_complete(finished):
    run_dir, results = finished
    for name in (
        "metrics.json",
        "predictions.csv",
        "provenance.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/best.safetensors",
        "figures/confusion_matrix.png",
        "figures/precision_recall.png",
        "figures/gradcam.png",
        "figures/learning_curves.png",
    ):
        assert (run_dir / name).stat().st_size > 0, name
    with Image.open(run_dir / "figures" / "gradcam.png") as image:
        assert image.size[0] > 200
    assert json.loads((run_dir / "metrics.json").read_text()) == results
    assert results["test/n"] == 21
    assert results["test/n_unmapped"] == 0
    assert results["fit/images_per_second"] > 0
    assert 0 < results["model/trainable_parameters"] <= results["model/parameters"]
    assert {f"test/f1/{name}" for name in CLASSES} <= results.keys()
    assert "val/f1_macro" in results


def test_predictions_recompute_to_the_metrics(finished):
    run_dir, results = finished
    table = pd.read_csv(run_dir / "predictions.csv")
    assert list(table)[:5] == ["id", "split", "label", "prediction", "in_dedup"]
    assert list(table)[5:] == [*CLASSES, "valence", "arousal"]
    assert table["id"].is_unique
    assert (table[CLASSES].idxmax(axis=1) == table["prediction"]).all()
    assert table[CLASSES].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    label, prediction = table["label"], table["prediction"]
    assert results["test/accuracy"] == pytest.approx(accuracy_score(label, prediction))
    assert results["test/balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, prediction))
    for average in ("macro", "weighted"):
        expected = f1_score(label, prediction, average=average, zero_division=0)
        assert results[f"test/f1_{average}"] == pytest.approx(expected, abs=1e-6)
    low, high = results["test/accuracy_ci95"]
    assert low <= results["test/accuracy"] <= high


def test_valence_and_arousal_are_measured_on_the_whole_split(finished, data_dir):
    run_dir, results = finished
    cfg = tiny_config(run_dir, data_dir)
    store = build_data(cfg, transform=plain(cfg.transform), image_size=64).store
    rows = store.rows("test")
    table = pd.read_csv(run_dir / "predictions.csv", dtype={"id": str}).set_index("id").loc[store.ids[rows]]
    for name in ("valence", "arousal"):
        p, t = table[name].to_numpy().clip(-1, 1), getattr(store, name)[rows].astype(float)
        covariance = np.mean((p - p.mean()) * (t - t.mean()))
        ccc = 2 * covariance / (p.var() + t.var() + (p.mean() - t.mean()) ** 2)
        assert results[f"test/{name}_ccc"] == pytest.approx(ccc, abs=1e-6)
        assert results[f"test/{name}_pcc"] == pytest.approx(np.corrcoef(p, t)[0, 1], abs=1e-6)
        assert results[f"test/{name}_rmse"] == pytest.approx(np.sqrt(np.mean((p - t) ** 2)), abs=1e-6)
        assert results[f"test/{name}_sagr"] == pytest.approx(np.mean(np.sign(p) == np.sign(t)), abs=1e-6)
        assert f"val/{name}_ccc" in results
    rows = list(result_table(results).columns[0].cells)
    assert {"valence_ccc", "arousal_sagr"} <= set(rows)


RECIPES = {
    "default": [],
    "averaged, mixed, plateau": ["callbacks=ema", "transform=strong", "transform.mixup=0.2", "scheduler=plateau"],
    "restarts, balanced": ["scheduler.warmup=0", "scheduler.first_cycle=1", "data.sampler=balanced"],
}


# The curves are part of what is resumed.
HISTORY = "callbacks.learning_curves={_target_: src.callbacks.history.LearningCurves, run_dir: ${run_dir}}"


@pytest.mark.parametrize(
    ("recipe", "workers"),
    [
        pytest.param("default", 0, marks=pytest.mark.slow),
        ("averaged, mixed, plateau", 2),
        ("restarts, balanced", 0),
    ],
)
def test_resumed_run_equals_the_straight_one(tmp_path, data_dir, recipe, workers):
    """With workers or without, both parts equal a run without any."""
    options = [*RECIPES[recipe], HISTORY, "test=false"]
    fit_and_test(tiny_config(tmp_path / "straight", data_dir, *options, "trainer.max_epochs=4"))
    options.append(f"data.num_workers={workers}")
    fit_and_test(tiny_config(tmp_path / "parts", data_dir, *options, "trainer.max_epochs=2"))
    fit_and_test(tiny_config(tmp_path / "parts", data_dir, *options, "trainer.max_epochs=4", "ckpt_path=last"))
    straight, parts = (learned(read_checkpoint(tmp_path / name)) for name in ("straight", "parts"))
    assert len(straight["histories"]) == 1
    assert_equal_states(straight, parts)


def test_a_resume_elsewhere_keeps_the_best_score(tmp_path, data_dir):
    options = ["scheduler=constant", "monitor=val/loss", "test=false"]
    fit_and_test(tiny_config(tmp_path / "a", data_dir, *options))
    further = ["trainer.max_epochs=3", "optimizer.lr=10", f"ckpt_path={tmp_path / 'a'}"]
    fit_and_test(tiny_config(tmp_path / "b", data_dir, *options, *further))
    best = [torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] for name in "ab"]
    assert best[1] in (best[0], 2)
    assert (tmp_path / "b" / "checkpoints" / "best.ckpt").exists()


def test_the_best_epoch_is_that_of_the_smallest_loss(tmp_path, data_dir):
    options = ["scheduler=constant", "monitor=val/loss", "optimizer.lr=0.3", HISTORY, "test=false"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options, "trainer.max_epochs=3"))
    (history,) = learned(read_checkpoint(tmp_path))["histories"]
    losses = [epoch["val/loss"] for epoch in history]
    assert read_checkpoint(tmp_path, "best")["epoch"] == np.argmin(losses)
    assert len(set(losses)) == 3


def test_seed_zero_is_a_seed_and_seeds_differ(tmp_path, data_dir):
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit_and_test(tiny_config(tmp_path / name, data_dir, f"seed={seed}", "trainer.max_epochs=1", "test=false"))
        results.append(read_checkpoint(tmp_path / name)["state_dict"]["head.classify.weight"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("head", ["linear_flat", "linear_bottleneck", "self_attention", "multihead", "emonet"])
def test_every_head_trains(tmp_path, data_dir, head):
    results = fit_and_test(tiny_config(tmp_path, data_dir, f"head={head}", *SMALL))
    assert results["test/n"] == 7
    assert not any("valence" in key or "arousal" in key for key in results)
    assert "valence_ccc" not in list(result_table(results).columns[0].cells)


def test_a_frozen_backbone_stays_bit_equal(finished, tmp_path, data_dir):
    overrides = [f"backbone.weights={finished[0]}", "backbone.freeze=all", "head=self_attention"]
    fit_and_test(tiny_config(tmp_path, data_dir, *overrides))
    before = read_checkpoint(finished[0], "best")["state_dict"]
    after = read_checkpoint(tmp_path)["state_dict"]
    backbone = [key for key in after if key.startswith("backbone.")]
    assert backbone
    for key in backbone:
        assert torch.equal(before[key], after[key]), key


def outputs(cfg):
    """Return what the model that a configuration describes is trained to tell."""
    start = starting_weights(cfg.backbone.weights)
    data = build_data(cfg, transform=plain(cfg.transform), image_size=start.spec.image_size if start else 64)
    return new_model(cfg, data, start, "32-true").spec.outputs


@pytest.mark.parametrize(
    ("override", "weight"), [("seed=0", 1), ("loss.auxiliary_weight=0.5", 0.5), ("auxiliary_weight=0.5", 0.5)]
)
def test_the_auxiliary_weight_reaches_the_loss_by_either_name(tmp_path, data_dir, override, weight):
    cfg = tiny_config(tmp_path, data_dir, override)
    assert build_loss(cfg, [1] * 7).auxiliary_weight == weight
    with open_dict(cfg):
        del cfg.loss["auxiliary_weight"]  # as in the file of a loss of one's own
    assert build_loss(cfg, [1] * 7).auxiliary_weight == cfg.auxiliary_weight


def test_landmarks_are_an_output_where_trained_or_kept(tmp_path, data_dir):
    """Frozen heat maps stay a trained output; without their loss, an unfrozen network would forget them."""
    results = fit_and_test(tiny_config(tmp_path / "a", data_dir, *SMALL, "backbone.landmarks=true"))
    assert {"val/landmarks_nme", "test/landmarks_nme"} <= results.keys()
    assert "landmarks_nme" in list(result_table(results).columns[0].cells)
    start = [*SMALL, f"backbone.weights={tmp_path / 'a'}", "head=linear_flat"]
    results = fit_and_test(tiny_config(tmp_path / "all", data_dir, *start, "backbone.freeze=all"))
    assert "test/landmarks_nme" in results
    assert "landmarks" in read_checkpoint(tmp_path / "all")["model_spec"]["outputs"]
    for freeze, kept in (("fan", True), ("none", False)):
        cfg = tiny_config(tmp_path, data_dir, *start, f"backbone.freeze={freeze}")
        assert ("landmarks" in outputs(cfg)) == kept, freeze


def test_official_weights_bring_landmarks_while_frozen(tmp_path, data_dir):
    torch.save(EmoNet(2, width=16, n_hourglass=1).state_dict(), tmp_path / "own.pth")
    weights = [f"backbone.weights={tmp_path / 'own.pth'}", "backbone.class_names=[happy,sad]"]
    for freeze, kept in (("all", True), ("none", False)):
        cfg = tiny_config(tmp_path, data_dir, *SMALL, *weights, f"backbone.freeze={freeze}")
        assert ("landmarks" in outputs(cfg)) == kept, freeze


def test_landmarks_of_data_without_any_are_refused(tmp_path, data_dir):
    for i, name in enumerate(["happy", "sad"] * 8):
        write(tmp_path / "pictures" / ("train", "val", "test")[i % 3] / name / f"{i}.png")
    data = ["data=folder", f"data.path={tmp_path / 'pictures'}", "backbone.landmarks=true"]
    with pytest.raises(ConfigError, match=r"backbone\.landmarks=true, but data=folder has no landmarks"):
        fit_and_test(tiny_config(tmp_path / "run", data_dir, *data))


def test_a_last_batch_of_one_is_dropped(tmp_path, data_dir):
    fit_and_test(tiny_config(tmp_path, data_dir, "trainer.max_epochs=1", "data.batch_size=5", "test=false"))
    assert read_checkpoint(tmp_path)["global_step"] == 26 // 5


MISTAKES = {
    "batch-norm": (["data.batch_size=1"], "data.batch_size=1"),
    "tap": (["head=linear_bottleneck", "head.tap=emotion"], "head.tap=emotion"),
    "no path": (["data=fer2013"], "data.path is not set"),
    "wrong path": (["data=fer2013", "data.path=/no/where.csv"], "data.path=/no/where.csv does not exist"),
    "weights": (["backbone.weights=nowhere.pth"], "nowhere.pth does not exist"),
    "official weights": (["backbone=emonet_8", "backbone.weights=/no/emonet_8.pth"], "face-analysis/emonet"),
    "monitor": (["monitor=val/valence_ccc"], "monitor=val/valence_ccc is no metric of the validation split"),
    "accelerator": (["trainer=gpu"], "trainer.accelerator=gpu"),
    "nodes": (["trainer=ddp_cpu", "trainer.num_nodes=2"], "trainer.num_nodes=2 without hydra.run.dir"),
    "nothing to resume": (["ckpt_path=last"], "ckpt_path=last, but"),
    "checkpoint": (["ckpt_path=nowhere"], "ckpt_path=nowhere does not exist"),
    "transform": (["transform.erase=2"], "transform.erase=2"),
    "unknown step": (["+transform.tilt=2"], "transform.tilt=2 is unknown; expected one of"),
    "frozen landmarks": (
        ["backbone.landmarks=true", "backbone.freeze=fan"],
        "backbone.landmarks=true with backbone.fr",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path, data_dir, mistake):
    overrides, message = MISTAKES[mistake]
    with pytest.raises(Exception, match=message.replace(".", r"\.")) as caught:
        fit_and_test(tiny_config(tmp_path, data_dir, *overrides))
    error = caught.value
    assert isinstance(error, ConfigError) or isinstance(error.__cause__, ConfigError)


def test_a_run_from_before_masks_were_limited_goes_on(finished, tmp_path, data_dir):
    """It keeps the network that it has: without the limit, which its description does not know."""
    run_dir = tmp_path / "old"
    shutil.copytree(finished[0], run_dir)
    path = run_dir / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["model_spec"]["backbone"].pop("mask_limit") == 16
    torch.save(checkpoint, path)
    fit_and_test(
        tiny_config(
            run_dir, data_dir, "head.valence_arousal=true", "trainer.max_epochs=3", "ckpt_path=last", "test=false"
        )
    )
    again = read_checkpoint(run_dir)
    assert again["epoch"] == 2
    assert "mask_limit" not in again["model_spec"]["backbone"]


def test_resuming_a_finished_run_is_refused(finished, data_dir):
    run_dir, _ = finished
    with pytest.raises(ConfigError, match=r"max_epochs=2 is already reached"):
        fit_and_test(tiny_config(run_dir, data_dir, "head.valence_arousal=true", "ckpt_path=last"))


def test_resuming_with_another_head_is_refused(finished, tmp_path, data_dir):
    run_dir, _ = finished
    with pytest.raises(ConfigError, match="was trained with head"):
        fit_and_test(tiny_config(tmp_path, data_dir, "head=multihead", f"ckpt_path={run_dir}"))


def test_one_cycle_goes_on_with_more_epochs(tmp_path, data_dir):
    options = ["scheduler=one_cycle", "test=false"]
    fit_and_test(tiny_config(tmp_path, data_dir, *options, "trainer.max_epochs=1"))
    fit_and_test(tiny_config(tmp_path, data_dir, *options, "trainer.max_epochs=2", "ckpt_path=last"))
    scheduler = read_checkpoint(tmp_path)["lr_schedulers"][0]
    assert scheduler["total_steps"] == scheduler["last_epoch"] == 2 * 4


CHANGES = {
    "seed": (["seed=1"], "seed=1"),
    "data": (["data.draw_seed=1"], "trained with data"),
    "optimizer": (["optimizer=sgd"], "trained with optimizer Adam, not SGD"),
    "scheduler": (["scheduler=constant"], "trained with scheduler"),
    "freezing": (["backbone.freeze=fan"], "trained with backbone.freeze"),
    "outputs": (["backbone.landmarks=true"], "trained with outputs"),
    "size": (["backbone.width=32"], "trained with backbone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_resuming_with_other_options_is_refused(finished, tmp_path, data_dir, change):
    overrides, message = CHANGES[change]
    options = ["head.valence_arousal=true", f"ckpt_path={finished[0]}", "trainer.max_epochs=3", *overrides]
    with pytest.raises(ConfigError, match=message):
        fit_and_test(tiny_config(tmp_path, data_dir, *options))


def test_a_backbone_keeps_its_width_and_image_size(tmp_path, data_dir):
    small = [*SMALL, "test=false"]
    fit_and_test(tiny_config(tmp_path / "a", data_dir, *small, "backbone.width=32", "data.image_size=128"))
    fit_and_test(tiny_config(tmp_path / "b", data_dir, *small, f"backbone.weights={tmp_path / 'a'}"))
    spec = read_checkpoint(tmp_path / "b")["model_spec"]
    assert (spec["image_size"], spec["backbone"]["width"]) == (128, 32)
