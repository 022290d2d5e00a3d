import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from src.data.faces.generator import draw_face
from src.inference import EmotionPredictor, onnx_backend
from src.inference.backend import TorchBackend
from src.inference.onnx_backend import OnnxBackend
from src.inference.onnx_operators import operators
from src.utils.errors import ConfigError
from tests.exporting.tiny import faces


def test_it_says_what_pytorch_says(exported):
    ours, theirs = OnnxBackend(str(exported.files["fp32"])), TorchBackend(exported.model, precision="32-true")
    for name in ("class_names", "image_size", "grayscale", "crop", "outputs"):
        assert getattr(ours, name) == getattr(theirs, name), name
    images = torch.from_numpy(faces(5, grayscale=True)).float() / 255
    found, expected = ours(images), theirs(images)
    for name in ("probabilities", "valence", "arousal"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        landmarks = exported.model(images, landmarks=True).landmarks
    torch.testing.assert_close(found.landmarks, landmarks, atol=1e-2, rtol=0)


def test_pixels_and_floats_mean_the_same(exported):
    backend = OnnxBackend(str(exported.files["fp32"]), device="cpu")
    pixels = faces(3)
    direct = backend.run(pixels)["probabilities"]
    assert np.array_equal(backend(torch.from_numpy(pixels) / 255).probabilities.numpy(), direct)


def test_large_batches_are_run_in_parts(exported, monkeypatch):
    backend = OnnxBackend(str(exported.files["fp32"]), device="cpu")
    images = torch.from_numpy(faces(5)) / 255
    whole, sizes, run = backend(images), [], backend.run
    monkeypatch.setattr(onnx_backend, "PIXELS_AT_ONCE", 2 * 64**2)
    monkeypatch.setattr(backend, "run", lambda pixels: sizes.append(len(pixels)) or run(pixels))
    parts = backend(images)
    assert sizes == [2, 2, 1]
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_predictor_runs_it(exported):
    file = str(exported.files["fp32"])
    (face,) = EmotionPredictor(file, backend="onnx", detector="none").predict(draw_face(5, 0, 64).image).faces
    expected = OnnxBackend(file).run(faces(1))["probabilities"][0]
    assert list(face.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert face.landmarks.shape == (68, 2)
    with pytest.raises(ConfigError, match=r"vocabulary=ferplus, but the weights have a single vocabulary"):
        EmotionPredictor(file, backend="onnx", vocabulary="ferplus")


def spoilt(source, target, output, value):
    """Write a file one of whose outputs has a value that the weights do not give."""
    graph = onnx.load(source)
    for node in graph.graph.node:
        node.output[:] = ["plain" if name == output else name for name in node.output]
        node.input[:] = ["plain" if name == output else name for name in node.input]
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), "spoilt"))
    graph.graph.node.append(onnx.helper.make_node("Mul", ["plain", "spoilt"], [output]))
    onnx.save(graph, target)
    return str(target)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("probabilities", np.nan),
        ("probabilities", np.inf),
        ("probabilities", -5),
        ("probabilities", 2),
        ("valence", np.nan),
    ],
)
def test_what_is_no_prediction_is_an_error(exported, tmp_path, output, value):
    path = spoilt(exported.files["fp32"], tmp_path / "model.onnx", output, value)
    predictor = EmotionPredictor(path, backend="onnx", detector="none")
    with pytest.raises(ConfigError, match=rf"model\.onnx gives {output} that cannot be"):
        predictor.predict(draw_face(5, 0, 64).image)


def foreign(path):
    """Write an ONNX file that is not ours."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [result])
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 18)])
    onnx.save(model, path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.onnx does not exist; backend=onnx expects an \.onnx file"):
        OnnxBackend(str(tmp_path / "none.onnx"))
    (tmp_path / "rubbish.onnx").write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match=r"rubbish\.onnx cannot be read as an ONNX file"):
        OnnxBackend(str(tmp_path / "rubbish.onnx"))
    foreign(tmp_path / "foreign.onnx")
    with pytest.raises(ConfigError, match=r"foreign\.onnx is no ONNX file of this framework"):
        OnnxBackend(str(tmp_path / "foreign.onnx"))


@pytest.mark.parametrize("device", ["cuda", "abacus"])
def test_a_device_that_is_not_there(exported, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(ConfigError, match=f"device={device} is not to be had with this onnxruntime"):
        OnnxBackend(str(exported.files["fp32"]), device=device)


def small_file(path, nodes, *initializers, metadata):
    """Write a file of ours whose graph is another one."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 64, 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return str(path)


def test_loops_are_refused(tmp_path, exported):
    metadata = {p.key: p.value for p in onnx.load(exported.files["fp32"]).metadata_props}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])],
    )
    always = numpy_helper.from_array(np.array(True), "always")
    value = numpy_helper.from_array(np.zeros((1, 7), np.float32), "value")
    nodes = [
        helper.make_node("Loop", ["", "always"], [], body=body),
        helper.make_node("Identity", ["value"], ["probabilities"]),
    ]
    file = small_file(tmp_path / "loop.onnx", nodes, always, value, metadata=metadata)
    with pytest.raises(ConfigError, match=r"loop\.onnx has the operator Loop, which need not end"):
        OnnxBackend(file)


def test_memory_without_end_is_refused(tmp_path, exported):
    metadata = {p.key: p.value for p in onnx.load(exported.files["fp32"]).metadata_props}
    size = numpy_helper.from_array(np.array([2**30]), "size")
    file = small_file(
        tmp_path / "a.onnx", [helper.make_node("ConstantOfShape", ["size"], ["probabilities"])], size, metadata=metadata
    )
    # Older releases of onnxruntime compute constants while they read the file.
    with pytest.raises(ConfigError, match=r"a\.onnx cannot be (run|read as an ONNX file) \("):
        OnnxBackend(file, device="cpu")(torch.zeros(1, 3, 64, 64))


def test_operators_are_those_of_the_graph(exported):
    file = exported.files["int8"]
    assert set(operators(file.read_bytes())) == {node.op_type for node in onnx.load(file).graph.node}
    for content in (b"\xff", b"\x3a\xff\x01", file.read_bytes()[:-5]):
        with pytest.raises(ValueError, match=r"it breaks off|unknown kind"):
            list(operators(content))


def test_a_file_can_be_sent_to_another_process(exported):
    backend = OnnxBackend(str(exported.files["fp32"]), device="cpu")
    images = torch.from_numpy(faces(1)) / 255
    assert torch.equal(pickle.loads(pickle.dumps(backend))(images).probabilities, backend(images).probabilities)
