import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from src.exporting.deployed import DeployedModel
from src.exporting.onnx_files import FLOAT, _with_convolved_norms, export_fp32, save, to_fp16
from src.models.spec import ModelSpec
from src.utils.paths import ROOT
from tests.exporting.tiny import CLASSES, OUTPUTS, faces, tiny_model, torch_outputs, without_colors

HEADS = ("linear", "linear_flat", "linear_bottleneck", "self_attention", "multihead")


def assert_equal_outputs(path, model):
    session = ort.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    assert tuple(names) == OUTPUTS
    for n in (1, 2, 5):
        expected = torch_outputs(model, without_colors(faces(n)))
        for name, values in zip(names, session.run(None, {"images": faces(n)}), strict=True):
            assert values.shape == expected[name].shape
            assert values.dtype == np.float32
            tolerance = 1e-2 if name == "landmarks" else 1e-4
            np.testing.assert_allclose(values, expected[name], atol=tolerance, err_msg=name)


def test_emonet_gives_the_same_for_any_batch(exported):
    assert_equal_outputs(exported.files["fp32"], exported.model)


@pytest.mark.slow  # tests/engine/test_export.py exports multihead
@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_the_same(tmp_path, head):
    model = tiny_model(head)
    deployed = DeployedModel(model, ("heatmap", "landmarks"))
    save(export_fp32(deployed), tmp_path / "model.onnx", deployed, "fp32")
    assert_equal_outputs(tmp_path / "model.onnx", model)


def test_a_file_is_complete_and_says_what_it_takes(exported):
    assert sorted(path.name for path in exported.folder.iterdir()) == ["fp16.onnx", "fp32.onnx", "int8.onnx"]
    for precision, path in exported.files.items():
        session = ort.InferenceSession(path)
        (given,) = session.get_inputs()
        assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 3, 64, 64])
        assert {output.type for output in session.get_outputs()} == {"tensor(float)"}
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["precision"] == precision
        assert json.loads(metadata["class_names"]) == list(CLASSES)
        assert list(json.loads(metadata["outputs"])) == list(OUTPUTS)
        contract = json.loads(metadata["input"])
        assert (contract["colour"], contract["range"], contract["grayscale"]) == ("RGB", [0, 255], True)
        assert (contract["crop"], contract["shape"]) == ("fer2013", ["batch", 3, 64, 64])
        assert "forehead" in contract["crop_note"]
        assert ModelSpec.from_dict(json.loads(metadata["model_spec"])) == exported.deployed.spec
        assert "nothing-0123" in metadata["licence"]
        assert "Research use" in metadata["licence"]


def test_a_file_tells_nothing_about_the_machine(exported):
    for path in exported.files.values():
        content = path.read_bytes()
        for secret in (str(ROOT), "site-packages", "deployed.py", "stack_trace"):
            assert secret.encode() not in content, secret


@pytest.mark.slow
def test_half_precision_leaves_alone_what_it_cannot_hold(tmp_path):
    """Sums of residual blocks in the hundred thousands, as trained weights have them: half precision ends at 65,504."""
    model, large = tiny_model(), 1e6
    with torch.no_grad():
        for parameter in model.backbone.conv1x1_input_emo_2.parameters():
            parameter *= large
        for block in model.backbone.emo_net_2[::2]:
            block.bn1.running_mean *= large
            block.bn1.running_var *= large**2
        model.head.fc[0].weight /= large
    deployed = DeployedModel(model, ())
    graph = to_fp16(export_fp32(deployed), faces(24))
    save(graph, tmp_path / "half.onnx", deployed, "fp16")
    expected = torch_outputs(model, without_colors(faces(24)))
    found = ort.InferenceSession(tmp_path / "half.onnx").run(["probabilities"], {"images": faces(24)})[0]
    np.testing.assert_allclose(found, expected["probabilities"], atol=2e-2)
    kernels = [tensor for tensor in graph.graph.initializer if tensor.name.endswith("conv2.weight")]
    assert kernels
    assert all(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in kernels), "the rest is in half precision"


def test_half_precision_halves_the_weights_and_keeps_the_answers(exported):
    tensors = onnx.load(exported.files["fp16"]).graph.initializer
    kernels = [tensor for tensor in tensors if tensor.name.endswith(("conv1.weight", "conv3.weight"))]
    assert kernels
    assert {tensor.data_type for tensor in kernels} == {onnx.TensorProto.FLOAT16}
    assert differences(exported, "fp16")["probabilities"] < 0.02


def test_quantized_weights_have_seven_bits_and_a_scale_per_channel(exported):
    graph = onnx.load(exported.files["int8"]).graph
    tensors = {t.name: t for t in graph.initializer}
    produced = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    stem = [node for node in convolutions if node.input[1] in tensors]
    assert all(any(part in node.input[1] for part in FLOAT) for node in stem)
    assert tensors[stem[0].input[1]].dims == [4, 3, 7, 7], "pixels are read in float"
    assert len(convolutions) - len(stem) > 20
    for node in (node for node in convolutions if node not in stem):
        quantized = produced[node.input[1]]
        assert quantized.op_type == "DequantizeLinear"
        weights, scales = (onnx.numpy_helper.to_array(tensors[name]) for name in quantized.input[:2])
        assert weights.dtype == np.int8
        assert np.abs(weights.astype(int)).max() <= 64
        assert scales.shape == weights.shape[:1]
    assert differences(exported, "int8")["probabilities"] < 0.25


def test_batch_norms_become_convolutions_of_the_same_values(exported):
    graph = onnx.load(exported.files["fp32"])
    convolved = _with_convolved_norms(graph)
    counts = [Counter(node.op_type for node in model.graph.node) for model in (graph, convolved)]
    assert counts[0]["BatchNormalization"] > 20
    assert counts[1]["BatchNormalization"] == 0
    assert counts[1]["Conv"] == counts[0]["Conv"] + counts[0]["BatchNormalization"]
    pixels = faces(4, grayscale=True)
    expected, found = (
        ort.InferenceSession(m.SerializeToString()).run(None, {"images": pixels}) for m in (graph, convolved)
    )
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert {n.op_type for n in onnx.load(exported.files["int8"]).graph.node}.isdisjoint({"BatchNormalization"})


def differences(exported, precision):
    pixels = faces(8, grayscale=True)
    expected = torch_outputs(exported.model, pixels)
    session = ort.InferenceSession(exported.files[precision])
    found = dict(zip(OUTPUTS, session.run(None, {"images": pixels}), strict=True))
    return {name: np.abs(values - expected[name]).max() for name, values in found.items()}
