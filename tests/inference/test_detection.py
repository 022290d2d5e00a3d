from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from src.data.faces.generator import draw_scene
from src.inference.detection import SEARCH_SIDE, HaarDetector, WholeImage, YunetDetector, build_detector
from src.inference.results import Box
from src.utils.errors import ConfigError

HAAR = HaarDetector()


def overlap(box, other):
    """Intersection over union."""
    x = max(0, min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0]))
    y = max(0, min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1]))
    return x * y / (box[2] * box[3] + other[2] * other[3] - x * y)


def found(image, faces, least=0.6):
    """Return how many faces are boxed, and the number of boxes."""
    boxes = [detection.box for detection in HAAR(image)]
    return sum(any(overlap(face.box, box) > least for box in boxes) for face in faces), len(boxes)


def test_it_boxes_the_faces_of_scenes():
    scenes = [draw_scene(21, i, 500, faces=4) for i in range(5)]
    results = np.array([found(*scene) for scene in scenes])
    assert results[:, 0].sum() >= 19
    assert results[:, 1].sum() <= 21


def test_the_boxes_have_the_size_of_those_of_the_default_cascade():
    sizes = []
    for i in range(12):
        image, (face,) = draw_scene(22, i, 400)
        sizes += [detection.box.width / face.box[2] for detection in HAAR(image)]
    assert np.median(sizes) == pytest.approx(1, abs=0.06)


def test_fifty_faces():
    image, faces = draw_scene(7, 0, 1600, faces=50)
    n_found, boxes = found(image, faces)
    assert n_found >= 45
    assert boxes <= 52


@pytest.mark.parametrize("size", [80, 3 * SEARCH_SIDE])
def test_small_and_large_images(size):
    image, faces = draw_scene(23, 1, 640)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    scaled = [replace(face, box=tuple(np.array(face.box) * size / 640)) for face in faces]
    assert found(image, scaled) == (1, 1)


def test_boxes_come_from_left_to_right_with_a_score():
    image, _ = draw_scene(21, 0, 500, faces=4)
    detections = HAAR(image)
    assert [d.box.x for d in detections] == sorted(d.box.x for d in detections)
    assert all(d.score > 0 for d in detections)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (300, 2, 3), (480, 641, 3)])
def test_no_face_in_nothing(shape):
    assert HAAR(np.full(shape, 128, np.uint8)) == []


def test_none_takes_the_whole_image():
    assert WholeImage()(np.zeros((30, 50, 3), np.uint8))[0].box == Box(0, 0, 50, 30)


def bright_cell_network(path):
    """Write a network with YuNet's inputs and outputs to which every bright cell of 32 x 32 pixels is a face."""
    constant = partial(helper.make_tensor, data_type=TensorProto.FLOAT)
    constants = [constant("zero", dims=[1], vals=[0.0]), constant("unit", dims=[1], vals=[1 / 255])]
    constants.append(helper.make_tensor("column", TensorProto.INT64, [3], [1, -1, 1]))
    nodes, outputs = [], []
    for stride in (8, 16, 32):
        size = [stride, stride]
        nodes += [
            helper.make_node("AveragePool", ["input"], [f"cells_{stride}"], kernel_shape=size, strides=size),
            helper.make_node("ReduceMean", [f"cells_{stride}"], [f"gray_{stride}"], axes=[1], keepdims=1),
            helper.make_node("Reshape", [f"gray_{stride}", "column"], [f"row_{stride}"]),
            helper.make_node("Mul", [f"row_{stride}", "zero"], [f"nothing_{stride}"]),
            helper.make_node("Mul", [f"row_{stride}", "unit" if stride == 32 else "zero"], [f"cls_{stride}"]),
            helper.make_node("Mul", [f"row_{stride}", "unit" if stride == 32 else "zero"], [f"obj_{stride}"]),
            helper.make_node("Concat", [f"nothing_{stride}"] * 4, [f"bbox_{stride}"], axis=2),
            helper.make_node("Concat", [f"nothing_{stride}"] * 10, [f"kps_{stride}"], axis=2),
        ]
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            shape = [1, (320 // stride) ** 2, width]
            outputs.append(helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, shape))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])
    graph = helper.make_graph(nodes, "cells", [given], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def test_yunet_runs_a_network_in_opencv(tmp_path):
    """YuNet itself is not ours to ship; this one has its layout, and goes through OpenCV's own decoding."""
    bright_cell_network(tmp_path / "yunet.onnx")
    detector = build_detector("yunet", str(tmp_path / "yunet.onnx"))
    image = np.zeros((300, 420, 3), np.uint8)  # neither square nor a multiple of 32
    assert detector(image) == []
    image[96:128, 320:352] = image[192:224, 64:96] = 255
    left, right = detector(image)
    # A box has the side of its cell, about the cell's corner.
    assert left.box == pytest.approx((48, 176, 32, 32), abs=1)
    assert right.box == pytest.approx((304, 80, 32, 32), abs=1)
    assert left.score == pytest.approx(1, abs=1e-3)


def test_yunet_boxes_are_scaled_back(tmp_path, monkeypatch):
    """The network is not ours to ship: its rows are as OpenCV documents them, x, y, width, height, ..., score."""

    class Network:
        def setInputSize(self, size):
            self.size = tuple(size)

        def detect(self, image):
            assert image.shape[1::-1] == self.size
            row = np.zeros(15, np.float32)
            row[:4], row[4:14], row[14] = (10, 20, 30, 40), np.arange(10), 0.9
            return 1, row[None] if image.any() else None

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Network())
    bright_cell_network(tmp_path / "yunet.onnx")
    detector = build_detector("yunet", str(tmp_path / "yunet.onnx"))
    assert detector(np.zeros((100, 100, 3), np.uint8)) == []
    (plain,) = detector(np.ones((400, 500, 3), np.uint8))
    assert plain.box == Box(10, 20, 30, 40)
    assert plain.score == pytest.approx(0.9)
    assert np.array_equal(plain.points, np.arange(10).reshape(5, 2))
    (reduced,) = detector(np.ones((100, 2 * SEARCH_SIDE, 3), np.uint8))
    assert reduced.box == Box(20, 40, 60, 80)
    # Edges of the image stay edges: the center of a pixel of the search is between two of the image.
    assert reduced.points[0].tolist() == [0.5, 2.5]


def test_yunet_refuses_what_is_no_network(tmp_path):
    (tmp_path / "broken.onnx").write_text("no network")
    with pytest.raises(ConfigError, match=r"broken.onnx cannot be used by YuNet .* detector=retinaface"):
        YunetDetector(str(tmp_path / "broken.onnx"))
