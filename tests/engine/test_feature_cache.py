"""Tests of training on cached features: the same results, one pass of the backbone, clear refusals."""

import json
import math
import os
import re
import shutil
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import torch

from src.data.datamodule import StoreDataModule
from src.engine import feature_cache
from src.engine.build import build_data, build_trainer, plain
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.feature_cache import with_cached_features
from src.engine.fit import fit_and_test, new_model
from src.engine.load import starting_weights
from src.models.emonet import EmoNet
from src.models.weights import build_from_weights, load_weights, save_safetensors
from src.runs.layout import find_checkpoint
from src.utils.cpu_precision import autocast
from src.utils.errors import ConfigError
from tests.engine.test_fit import assert_equal_states, learned
from tests.helpers.running import TINY_DATA, compose_config, read_checkpoint, tiny_config

WRITERS = "callbacks.test_table.writers"
QUICK = [f"~{WRITERS}.confusion_matrix", f"~{WRITERS}.precision_recall", "~callbacks.learning_curves"]
FROZEN = ["backbone.freeze=all", "transform=none", "trainer.precision=32-true", *QUICK]
HEADS = ("linear", "linear_flat", "linear_bottleneck", "self_attention", "multihead")
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def images(monkeypatch):
    """Count the images that go through the backbone, per call."""
    seen = []
    original = EmoNet.fuse

    def fuse(self, x):
        seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(EmoNet, "fuse", fuse)
    return seen


@pytest.fixture(scope="module")
def backbone(tmp_path_factory, data_dir):
    """A run whose backbone others freeze, with all taps."""
    run_dir = tmp_path_factory.mktemp("backbone")
    fit_and_test(
        tiny_config(run_dir, data_dir, "head=emonet", "transform=light", "trainer.max_epochs=1", "test=false", *QUICK)
    )
    return f"backbone.weights={run_dir}"


def serve(folder, data_dir, *options):
    """Serve everything that a training with these options needs, and let the model predict it."""
    cfg = tiny_config(folder, data_dir, *FROZEN, *options)
    start = starting_weights(cfg.backbone.weights)
    data = build_data(cfg, transform=plain(cfg.transform), image_size=cfg.data.image_size or 64)
    model = new_model(cfg, data, start, cfg.trainer.precision).eval()
    trainer = build_trainer(cfg, [], [], cfg.trainer.precision)
    data = with_cached_features(cfg, model, data.with_grayscale(model.spec.grayscale), trainer)
    loaders = [data.train_dataloader(), data.val_dataloader(), *([data.test_dataloader()] if cfg.test else [])]
    with torch.no_grad(), autocast("cpu", cfg.trainer.precision):
        for loader in loaders:
            for batch in loader:
                model.predict_batch(data.on_after_batch_transfer(batch, 0))
    return model, data


def features_folders(data_dir):
    folder = data_dir / "cache" / "features"
    return sorted(folder.iterdir()) if folder.exists() else []


def caches(data_dir):
    return {path.name for path in features_folders(data_dir)}


@pytest.fixture
def own_data(tmp_path, data_dir):
    """A data folder with the synthetic faces, and without features."""
    return shutil.copytree(data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("features"))


RECIPES = {
    "plain": ["transform=none"],
    "flips": ["transform=flip", "data.sampler=balanced"],
    "flips, bf16": ["transform=flip", "trainer.precision=bf16-mixed", "head=self_attention"],
    "trained emotion blocks": ["backbone.freeze=fused", "head.tap=emotion2", "transform=flip"],
    "affect, classes": [
        *("head=emonet", "head.valence_arousal=true", "transform=flip"),
        "data.merge={negative: [sad, fear, angry]}",
    ],
}


@pytest.mark.parametrize(
    "recipe", [pytest.param("plain", marks=pytest.mark.slow), *(name for name in RECIPES if name != "plain")]
)
def test_training_on_features_is_training_on_images(tmp_path, data_dir, backbone, recipe, monkeypatch):
    """With a width that loses nothing, all that differs is the rounding of batches of another size."""
    monkeypatch.setitem(feature_cache.NARROW, "32-true", torch.float32)
    options = [backbone, *FROZEN, *RECIPES[recipe], "data.n_test=60"]
    results = [
        fit_and_test(tiny_config(tmp_path / str(cache), data_dir, *options, f"cache={cache}"))
        for cache in ("true", "false")
    ]
    # The unit roundoff of the precision, over two epochs of steps.
    tolerance = 32 * torch.finfo(torch.bfloat16).eps if "bf16" in recipe else 1e4 * torch.finfo(torch.float32).eps
    ours, theirs = (pd.read_csv(tmp_path / cache / "predictions.csv") for cache in ("true", "false"))
    assert len(ours) == 60
    assert list(ours["id"]) == list(theirs["id"])
    columns = [name for name in ours if name not in ("id", "split", "label", "prediction", "in_dedup")]
    assert len(columns) >= 5
    np.testing.assert_allclose(ours[columns], theirs[columns], atol=tolerance)
    assert results[0]["val/loss"] == pytest.approx(results[1]["val/loss"], rel=tolerance)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", "float16"), ("16-mixed", "float16"), ("bf16-mixed", "bfloat16")]
)
def test_features_are_rounded_to_their_width_and_no_further(tmp_path, own_data, backbone, precision, dtype):
    options = [backbone, "cache=true", "test=false", f"trainer.precision={precision}"]
    _, data = serve(tmp_path, own_data, *options)
    (description,) = [json.loads((path / "features.json").read_text()) for path in features_folders(own_data)]
    assert description["dtype"] == dtype
    model, images = serve(tmp_path, own_data, *options[:1], "cache=false", "test=false", *options[2:])
    for cached, batch in zip(data.val_dataloader(), images.val_dataloader(), strict=True):
        image = images.on_after_batch_transfer(batch, 0)["image"]
        with torch.no_grad(), autocast("cpu", precision):
            exact = model.features(image).float()
        # Half a unit in the last place; a whole one where batches of another size are rounded to the neighbor.
        unit = torch.finfo(getattr(torch, dtype)).eps
        torch.testing.assert_close(cached["features"].float(), exact, rtol=2 * unit, atol=unit)


@pytest.fixture
def large_backbone(backbone, tmp_path):
    """Weights whose features half precision cannot hold."""
    weights = load_weights(find_checkpoint(backbone.removeprefix("backbone.weights=")))
    model = build_from_weights(weights)
    with torch.no_grad():
        model.backbone.conv1x1_input_emo_2.weight.mul_(1e6)
    save_safetensors(model, tmp_path / "large.safetensors")
    return f"backbone.weights={tmp_path / 'large.safetensors'}"


def test_features_too_large_for_half_precision_are_kept_in_single(tmp_path, own_data, large_backbone, images, caplog):
    caplog.set_level("INFO")
    _, data = serve(tmp_path, own_data, large_backbone, "test=false")
    assert "they are kept in single precision" in caplog.text
    (folder,) = features_folders(own_data)
    assert json.loads((folder / "features.json").read_text())["dtype"] == "float32"
    largest = max(float(batch["features"].abs().max()) for batch in data.val_dataloader())
    assert 65504 < largest < math.inf
    images.clear()
    serve(tmp_path, own_data, large_backbone, "test=false", "head=multihead")
    assert not images, "what was too large once is not tried again"


def test_no_cache_ends_a_run_that_did_not_ask_for_it(tmp_path, own_data, large_backbone, caplog, monkeypatch):
    """Half precision overflows within the backbone here; then the folder cannot be written."""
    options = [large_backbone, "test=false"]
    serve(tmp_path, own_data, *options, "trainer.precision=16-mixed")
    assert "goes on without cached features: the backbone's features are not finite" in caplog.text
    with pytest.raises(ConfigError, match=r"not finite in trainer.precision=16-mixed. Set trainer.precision=32-true"):
        serve(tmp_path, own_data, *options, "trainer.precision=16-mixed", "cache=true")

    def full(*args):
        raise OSError(28, "No space left on device")

    caplog.clear()
    monkeypatch.setattr(feature_cache.FeatureStore, "writer", full)
    serve(tmp_path, own_data, *options)
    assert "goes on without cached features: cannot write the features" in caplog.text
    monkeypatch.setattr(feature_cache.FeatureStore, "locked", full)
    serve(tmp_path, own_data, *options)


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
@pytest.mark.parametrize("transform", ["none", "flip"])
def test_the_cache_changes_no_prediction_of_real_images(tmp_path, data_dir, transform):
    """An epoch of 6,144 images in whatever precision this machine has, then all of PublicTest."""
    options = ["data=fer2013", f"data.path={os.environ['FER2013_PATH']}", "backbone=emonet_fer", "head=linear"]
    options += [f"transform={transform}", "data.batch_size=512", "trainer.max_epochs=1", "test=false"]
    torch.set_num_threads(os.cpu_count() or 1)
    for cache in ("true", "false"):
        cfg = tiny_config(tmp_path / cache, data_dir, *options, f"cache={cache}", "trainer.limit_train_batches=12")
        fit_and_test(cfg)
    ours, theirs = (pd.read_csv(tmp_path / cache / "predictions.csv") for cache in ("true", "false"))
    same = (ours["prediction"] == theirs["prediction"]).mean()
    print(f"transform={transform}: the same class for {same:.2%} of {len(ours):,} images")
    assert len(ours) == 3589
    assert same >= 0.995


def test_heads_and_seeds_share_one_pass(tmp_path, own_data, backbone, images):
    for head in HEADS:
        for seed in range(3):
            serve(tmp_path, own_data, backbone, f"head={head}", f"seed={seed}", "cache=true")
    # Heads on trained emotion blocks start from the same features.
    serve(tmp_path, own_data, backbone, "head=emonet", "backbone.freeze=fused", "cache=true")
    assert sum(images) == 26 + 14 + 21
    assert len(caches(own_data)) == 1


def test_a_resumed_run_equals_the_straight_one(tmp_path, data_dir, backbone):
    options = [backbone, *FROZEN, "transform=flip", "head=multihead", "cache=true"]
    fit_and_test(tiny_config(tmp_path / "straight", data_dir, *options, "trainer.max_epochs=4"))
    fit_and_test(tiny_config(tmp_path / "parts", data_dir, *options, "trainer.max_epochs=2"))
    rest = ["trainer.max_epochs=4", "ckpt_path=last", "data.num_workers=2"]
    fit_and_test(tiny_config(tmp_path / "parts", data_dir, *options, *rest))
    straight, parts = (learned(read_checkpoint(tmp_path / name)) for name in ("straight", "parts"))
    assert_equal_states(straight, parts)


def test_checkpoints_are_whole_models(tmp_path, data_dir, backbone):
    expected = fit_and_test(tiny_config(tmp_path / "run", data_dir, backbone, *FROZEN, "cache=true"))
    file = tmp_path / "run" / "checkpoints" / "best.safetensors"
    assert any(key.startswith("backbone.") for key in load_weights(file).state)
    options = [*TINY_DATA, "trainer=cpu", "trainer.enable_progress_bar=false", "trainer.precision=32-true"]
    cfg = compose_config("eval", *options, f"ckpt_path={file}", f"run_dir={tmp_path}", f"data_dir={data_dir}")
    found = run_evaluation(cfg)
    for key in ("test/accuracy", "test/f1_macro"):
        assert found[key] == pytest.approx(expected[key])


def test_a_killed_job_is_taken_up(tmp_path, own_data, backbone, images, monkeypatch):
    monkeypatch.setattr(feature_cache, "BATCH", 4)
    monkeypatch.setattr(feature_cache, "COMMIT_SECONDS", 0.0)
    kept = StoreDataModule.plain_images

    def killed(self, rows):
        if len(images) == 3:
            raise KeyboardInterrupt
        return kept(self, rows)

    monkeypatch.setattr(StoreDataModule, "plain_images", killed)
    with pytest.raises(KeyboardInterrupt):
        serve(tmp_path, own_data, backbone, "cache=true")
    monkeypatch.setattr(StoreDataModule, "plain_images", kept)
    serve(tmp_path, own_data, backbone, "cache=true")
    assert sum(images) == 26 + 14 + 21


NOT_WORTH_IT = {
    "one epoch": ["trainer.max_epochs=1"],
    "two epochs of two views": ["transform=flip"],
    "another transform": ["transform=light", "trainer.max_epochs=9"],
    "a trained backbone": ["backbone.freeze=none", "trainer.max_epochs=9"],
    "a part of an epoch": ["trainer.limit_train_batches=1", "trainer.max_epochs=9"],
}


def test_auto_caches_where_it_pays(tmp_path, own_data, backbone, images):
    for options in NOT_WORTH_IT.values():
        serve(tmp_path, own_data, backbone, "test=false", *options)
        assert not caches(own_data), options
    images.clear()
    serve(tmp_path, own_data, backbone, "test=false")
    assert sum(images) == 26 + 14  # the test split stays unseen
    serve(tmp_path, own_data, backbone, "test=false", "trainer.max_epochs=1")
    assert sum(images) == 26 + 14  # what is there is used
    serve(tmp_path, own_data, backbone, "test=false", "cache=false")
    assert sum(images) == 2 * (26 + 14)


def test_a_cache_belongs_to_all_that_makes_it(tmp_path, own_data, backbone):
    def n_caches(*options):
        serve(tmp_path, own_data, "cache=true", "test=false", *options)
        return len(caches(own_data))

    assert n_caches(backbone) == 1
    same = [["head=multihead"], ["seed=2"], ["data.classes=[sad,fear]"], ["data.batch_size=4"], ["transform=flip"]]
    assert [n_caches(backbone, *options) for options in same] == [1] * len(same)
    other = [
        ["head.tap=emotion2"],
        ["trainer.precision=bf16-mixed"],
        ["data.image_size=128"],
        ["data.n_test=20"],
        ["backbone.grayscale=true"],
    ]
    assert [n_caches(backbone, *options) for options in other] == [2, 3, 4, 5, 6]
    torch.manual_seed(1)
    assert n_caches() == 7  # fresh weights


MISTAKES = {
    "trained backbone": (["backbone.freeze=fan"], "the backbone is trained"),
    "transform": (["transform=light"], "transform=light gives every epoch other images"),
    "precision": (["trainer.precision=64-true"], "features of trainer.precision=64-true are not kept"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_cached_is_refused(tmp_path, data_dir, mistake):
    overrides, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match="^cache=true, but " + re.escape(message)):
        serve(tmp_path, data_dir, "cache=true", *overrides)


def test_a_small_disk_is_refused_with_advice(tmp_path, own_data, backbone, monkeypatch, caplog):
    caplog.set_level("INFO")
    free = feature_cache.SPARE_BYTES + 61 * 8192
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(0, 0, free - 1))
    with pytest.raises(ConfigError, match=r"488 KiB \(8 KiB an image\).*head\.tap=emotion2"):
        serve(tmp_path, own_data, backbone, "cache=true")
    serve(tmp_path, own_data, backbone, "cache=auto")
    assert not caches(own_data)
    assert "its features are not cached: the features take 488 KiB" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(0, 0, free))
    serve(tmp_path, own_data, backbone, "cache=true")
    assert len(caches(own_data)) == 1
    assert "Caching the features of 61 images (8 KiB each, 488 KiB in all" in caplog.text


def test_who_does_not_insist_keeps_half_of_the_disk(tmp_path, own_data, backbone, monkeypatch, caplog):
    caplog.set_level("INFO")
    options = [backbone, "cache=auto", "trainer.max_epochs=9"]
    monkeypatch.setattr(feature_cache, "SPARE_BYTES", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(0, 0, 2 * 61 * 8192 - 2))
    serve(tmp_path, own_data, *options)
    assert not caches(own_data)
    assert "of which 488 KiB are to stay. Set data_dir to a larger disk, or cache=true" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(0, 0, 2 * 61 * 8192))
    serve(tmp_path, own_data, *options)
    assert len(caches(own_data)) == 1


def test_a_full_disk_is_no_traceback(tmp_path, own_data, backbone, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.FeatureStore, "writer", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        serve(tmp_path, own_data, backbone, "cache=true")
