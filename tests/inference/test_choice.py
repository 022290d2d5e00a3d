"""Tests of the choice between backends: by what the machine has, and of files that agree with the weights alone."""

import json
import logging
import shutil

import onnx
import pytest
import torch

from src.exporting.onnx_files import publish
from src.inference import EmotionPredictor
from src.inference.backend import TorchBackend
from src.inference.choice import load_backend, why_torch
from src.inference.onnx_backend import OnnxBackend
from src.models.onnx_metadata import write_origin
from src.models.weights import load_weights, save_safetensors, weights_digest
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.exporting.tiny import faces
from tests.utils.test_precision import MACHINES, machine  # noqa: F401

PARITY = {"accuracy": 0.70, "accuracy_torch": 0.704, "points_lost": 0.4, "pictures": 3589, "passed": True}


@pytest.fixture
def no_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def weights(exported, tmp_path):
    """Weights, and a function that puts their files beside them."""
    path = tmp_path / "model.safetensors"
    save_safetensors(exported.model, path)

    def put(kind, *, digest=None, **parity):
        digest = digest or weights_digest(load_weights(path).state)
        publish(exported.files[kind], tmp_path / f"model_{kind}.onnx", write_origin(digest, {**PARITY, **parity}))

    return path, put


def load(path, **options):
    return load_backend("auto", str(path), **options)


WANTED = {"CPU without bf16": False, "CPU with AVX512-bf16": True, "CPU with AMX": True, "T4": True, "A100": True}


@pytest.mark.parametrize("machine", [*WANTED, "Apple"], indirect=True)
def test_every_machine_takes_what_it_does_fast(machine, request):  # noqa: F811
    name = request.node.callspec.params["machine"]
    assert name in MACHINES
    reason = why_torch(device="auto", precision="auto", gradients=False)
    assert (reason is not None) == WANTED.get(name, False)


def test_what_only_pytorch_can_do(no_bf16):
    assert why_torch(device="cpu", precision="auto", gradients=False) is None
    assert "gradients" in why_torch(device="cpu", precision="auto", gradients=True)
    assert "precision=32-true was asked for" in why_torch(device="cpu", precision="32-true", gradients=False)
    assert "GPU" in why_torch(device="cuda", precision="auto", gradients=False)


def test_the_fastest_file_that_agrees(weights, no_bf16, caplog):
    caplog.set_level(logging.INFO)
    path, put = weights
    backend = load(path)
    assert isinstance(backend, TorchBackend)
    assert "PyTorch, 32-true: there is no ONNX file beside model.safetensors" in caplog.text
    put("fp32")
    put("int8")
    caplog.clear()
    backend = load(path)
    assert isinstance(backend, OnnxBackend)
    assert "ONNX Runtime, int8 (model_int8.onnx): no bf16 here, and 70.00 % of 3589 images right" in caplog.text
    images = torch.from_numpy(faces(2, grayscale=True)) / 255
    expected = OnnxBackend(str(path.with_name("model_int8.onnx")))(images)
    assert torch.equal(backend(images).probabilities, expected.probabilities)


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        ({"points_lost": 0.51}, "loses more than 0.5 points"),
        ({"passed": False}, "loses more than 0.5 points"),
        ({"digest": "other"}, "was not made from model.safetensors"),
        ({"points_lost": "none"}, "does not say how well it agrees with its weights"),
        ({"accuracy": None}, "does not say how well it agrees with its weights"),
    ],
)
def test_a_file_that_does_not_agree_is_left_aside(weights, no_bf16, caplog, spoiled, reason):
    path, put = weights
    put("fp32")
    put("int8", **spoiled)
    backend = load(path)
    assert f"model_int8.onnx is left aside: it {reason}" in caplog.text
    assert backend.origin["parity"]["points_lost"] == 0.4
    path.with_name("model_fp32.onnx").write_bytes(b"rubbish")
    assert isinstance(load(path), TorchBackend)
    assert "model_fp32.onnx is left aside" in caplog.text


def test_a_file_without_all_outputs_is_left_aside(weights, no_bf16, caplog):
    path, put = weights
    put("fp32")
    file = path.with_name("model_fp32.onnx")
    graph = onnx.load(file)
    (entry,) = [entry for entry in graph.metadata_props if entry.key == "model_spec"]
    entry.value = json.dumps({**json.loads(entry.value), "outputs": ["expression", "valence_arousal"]})
    onnx.save(graph, file)
    assert isinstance(load(path), TorchBackend)
    assert "it does not give landmarks" in caplog.text


def test_where_bf16_is_native_or_gradients_are_wanted_files_are_not_looked_at(weights, monkeypatch, no_bf16):
    path, put = weights
    put("int8")
    assert isinstance(load(path, gradients=True), TorchBackend)
    assert isinstance(load(path, precision="32-true"), TorchBackend)
    assert isinstance(load_backend("torch", str(path)), TorchBackend)
    assert EmotionPredictor(path, gradcam=True, detector="none").gradcam
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert load(path).precision == "bf16-mixed"


@pytest.mark.parametrize("vocabulary", [None, "fer2013", "ferplus"])
def test_both_vocabularies_are_found(vocabulary, no_bf16):
    shipped = str(ROOT / "pretrained" / "emonet_fer.safetensors")
    ours, theirs = load(shipped, vocabulary=vocabulary), load_backend("torch", shipped, vocabulary=vocabulary)
    assert isinstance(ours, OnnxBackend)
    assert ours.class_names == theirs.class_names
    assert len(ours.class_names) == (7 if vocabulary == "fer2013" else 8)
    images = torch.from_numpy(faces(3, grayscale=True)) / 255
    torch.testing.assert_close(ours(images).probabilities, theirs(images).probabilities, atol=0.1, rtol=0)


@pytest.mark.parametrize("name", ["emonet_fer", "emonet_fer_small"])
def test_shipped_files_are_those_of_the_shipped_weights(name, no_bf16):
    path = ROOT / "pretrained" / f"{name}.safetensors"
    ours, theirs = load(path), load_backend("torch", str(path))
    assert isinstance(ours, OnnxBackend)
    assert ours.origin["parity"]["pictures"] == 3589  # all of PublicTest
    images = torch.from_numpy(faces(16, grayscale=True)) / 255
    found, expected = ours(images), theirs(images)
    assert (ours.class_names, ours.outputs, ours.crop) == (theirs.class_names, theirs.outputs, theirs.crop)
    # The largest difference on PublicTest was 0.19.
    assert float((found.probabilities - expected.probabilities).abs().max()) < 0.25
    assert (found.valence is None) == (expected.valence is None)


def test_an_onnx_file_itself_and_unknown_backends(exported, tmp_path):
    shutil.copy(exported.files["fp32"], tmp_path / "any.onnx")
    assert isinstance(load(tmp_path / "any.onnx"), OnnxBackend)
    with pytest.raises(ConfigError, match="backend=tensorrt; expected one of auto, torch, onnx"):
        load_backend("tensorrt", "x")
