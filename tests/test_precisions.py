"""The default recipe on the shipped weights, in every precision, whatever this machine has."""

from __future__ import annotations

import csv
import json
import logging
import math
import os

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.faces.generator import draw_face
from src.engine import build as pipeline
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.explain import explain_model
from src.engine.export import export
from src.engine.fit import fit_and_test
from src.engine.predict import predict
from src.inference import backend as backend_module
from src.inference.backend import TorchBackend
from src.models.weights import load_weights
from src.runs.directory import environment, update_provenance, write_config
from src.utils.paths import ROOT
from src.web.analysis import Analyst, Overlay
from src.web.models import ModelShelf
from tests.helpers.running import compose_config, read_checkpoint

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SHIPPED = ("emonet_fer", "emonet_fer_small")
DATA = ["data.n_train=16", "data.n_val=8", "data.n_test=8", "data.batch_size=8"]
TRAINER = ["trainer=cpu", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request):
    """Let `auto` mean this precision, as it does on some machine."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, backend_module):
            patch.setattr(module, "resolve_precision", lambda *_: request.param)
        yield request.param


@pytest.fixture(scope="module")
def run(precision, tmp_path_factory, data_dir):
    """The default training in small, interrupted after an epoch and resumed."""
    run_dir = tmp_path_factory.mktemp("run")
    options = ["backbone=emonet_fer_small", *DATA, *TRAINER, "logger=none", "cache=true"]
    for epochs in ("1", "2"):
        resume = [] if epochs == "1" else ["ckpt_path=last"]
        places = [f"run_dir={run_dir}", f"data_dir={data_dir}", f"trainer.max_epochs={epochs}"]
        cfg = compose_config("train", *options, *places, *resume)
        write_config(run_dir, pipeline.plain(cfg))
        update_provenance(run_dir, **environment([], {"data": "synthetic"}))
        fit_and_test(cfg)
    return run_dir


def assert_finite_metrics(path):
    numbers = [n for v in json.loads(path.read_text()).values() for n in (v if isinstance(v, list) else [v])]
    assert len(numbers) > 20
    assert all(n is None or math.isfinite(n) for n in numbers)


def assert_finite_table(path, n, first):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n
    probabilities = np.array([[float(row[name]) for name in row if name in first] for row in rows])
    assert probabilities.shape == (n, len(first))
    assert np.allclose(probabilities.sum(axis=1), 1, atol=0.02)


def test_training_and_resuming(run, precision):
    assert_finite_metrics(run / "metrics.json")
    checkpoint = read_checkpoint(run)
    assert checkpoint["epoch"] == 1
    assert checkpoint["model_spec"]["precision"] == precision
    assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())
    scaled = {"16-mixed"}  # fp16's gradients would vanish without
    assert ("MixedPrecision" in checkpoint) == (precision in scaled)


def test_evaluating(run, precision, tmp_path, data_dir, caplog):
    caplog.set_level(logging.INFO)
    options = [*DATA, *TRAINER, f"ckpt_path={run}", f"run_dir={tmp_path}", f"data_dir={data_dir}"]
    run_evaluation(compose_config("eval", *options))
    assert f"Precision: {precision}" in caplog.text
    assert_finite_metrics(tmp_path / "metrics.json")
    names = load_weights(run / "checkpoints" / "best.ckpt").spec.class_names
    assert_finite_table(tmp_path / "predictions.csv", 8, names)


def test_predicting(run, precision, tmp_path):
    Image.fromarray(draw_face(1, 0, 96).image).save(tmp_path / "face.png")
    folder = tmp_path / "predictions"
    folder.mkdir()
    options = [f"input={tmp_path / 'face.png'}", "detector=none", "gradcam=true", f"ckpt_path={run}"]
    predict(compose_config("predict", *options, f"run_dir={folder}"))
    names = load_weights(run / "checkpoints" / "best.ckpt").spec.class_names
    assert_finite_table(folder / "predictions.csv", 1, names)
    assert (folder / "annotated" / "face.jpg").is_file()


def test_explaining(run, precision, tmp_path, data_dir):
    places = [*DATA, "data=synthetic", f"ckpt_path={run}", f"data_dir={data_dir}", f"run_dir={tmp_path}"]
    small = ["explain.scored=2", "explain.pictures=2", "explain.compare=[gradcam]", "explain.searched=8"]
    explain_model(compose_config("explain", *places, *small))
    assert "NaN" not in (tmp_path / "explanation.json").read_text()


@pytest.mark.slow
def test_exporting(run, precision, tmp_path, data_dir):
    if precision != "16-mixed":
        pytest.skip("float32 is what is exported, whatever a model was trained in")
    places = [*DATA, "data=synthetic", f"ckpt_path={run}", f"data_dir={data_dir}", f"run_dir={tmp_path}"]
    (row,) = export(compose_config("export", *places, "onnx.precision=fp16", "onnx.calibration_pictures=4"))
    assert row.passed
    assert all(math.isfinite(difference) for difference in row.differences.values())


def test_the_demo(run, precision, tmp_path):
    analyst = Analyst(ModelShelf([str(run)], detector="none"), tmp_path, max_seconds=1)
    view = analyst.frame(draw_face(1, 0, 96).image, run.name, Overlay(heat=True))
    assert "1 face." in view.notice
    assert "nan" not in view.faces.lower()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_say_the_same_in_every_precision(name):
    """Where float32 is sure of its class; slow tests count on all of PublicTest."""
    images = torch.from_numpy(np.stack([draw_face(3, i, 64, grayscale=True).image for i in range(8)]))
    images = images.permute(0, 3, 1, 2) / 255
    outputs = [TorchBackend.from_weights(weights_file(name), precision=p)(images) for p in PRECISIONS]
    exact = outputs[0].probabilities
    for other in outputs[1:]:
        assert bool(other.probabilities.isfinite().all())
        # Rounding to bf16's eight bits, through some sixty layers whose errors are as often up as down.
        assert float((other.probabilities - exact).abs().max()) < torch.finfo(torch.bfloat16).eps * 60**0.5


def weights_file(name):
    return str(ROOT / "pretrained" / f"{name}.safetensors")


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
@pytest.mark.parametrize("name", SHIPPED)
def test_precisions_agree_on_publictest(name, public_test):
    """The same class as float32 for at least 99.5 % of all 3,589 images."""
    torch.set_num_threads(os.cpu_count() or 1)
    found = {}
    for precision in PRECISIONS:
        backend = TorchBackend.from_weights(weights_file(name), vocabulary="fer2013", precision=precision)
        parts = [backend(images.float() / 255).probabilities for images in public_test.images.split(256)]
        found[precision] = torch.cat(parts).argmax(dim=1)
    for precision, classes in found.items():
        same = float((classes == found["32-true"]).float().mean())
        accuracy = float((classes == public_test.labels).float().mean())
        print(f"{name}, {precision}: the same class as in float32 for {same:.2%}, accuracy {accuracy:.2%}")
        assert same >= 0.995
