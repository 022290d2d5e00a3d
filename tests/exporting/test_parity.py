import numpy as np
import pytest

from src.exporting.parity import Images, measure, parity_table, refuse_missed, torch_outputs
from src.utils.errors import ConfigError
from tests.exporting.tiny import CLASSES, OUTPUTS, faces
from tests.exporting.tiny import torch_outputs as plain_outputs


@pytest.fixture(scope="module")
def images():
    """Return more images than a batch."""
    return Images(faces(70, grayscale=True), np.arange(70) % len(CLASSES))


@pytest.fixture(scope="module")
def reference(exported, images):
    return torch_outputs(exported.model, images, OUTPUTS)


def test_the_reference_is_pytorch_in_single_precision(exported, images, reference):
    for name, values in plain_outputs(exported.model, images.pixels).items():
        np.testing.assert_allclose(reference[name], values, atol=1e-2 if name == "landmarks" else 1e-5)


def test_what_is_measured(exported, images, reference):
    row = measure(exported.files["int8"], "int8", images, reference)
    assert (row.precision, row.file, row.images) == ("int8", "int8.onnx", 70)
    theirs = reference["probabilities"].argmax(1)
    assert row.accuracy_torch == pytest.approx((theirs == images.labels).mean())
    assert 0 <= row.agreement <= 1
    assert row.points_lost == pytest.approx(100 * (row.accuracy_torch - row.accuracy))
    assert set(row.differences) == set(OUTPUTS)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_difference_of_any_output_misses_the_limit_of_fp32(exported, images, reference, output):
    assert measure(exported.files["fp32"], "fp32", images, reference).passed
    wrong = {**reference, output: reference[output].copy()}
    wrong[output][69] += 0.02 if output == "landmarks" else 2e-4
    row = measure(exported.files["fp32"], "fp32", images, wrong)
    assert not row.passed
    with pytest.raises(ConfigError, match=r"fp32\.onnx misses its limit .*: the largest difference is"):
        refuse_missed([row])


def test_other_classes_miss_the_limit_of_fp16(exported, images, reference):
    assert measure(exported.files["fp32"], "fp16", images, reference).agreement == 1
    wrong = {**reference, "probabilities": reference["probabilities"].copy()}
    wrong["probabilities"][0] = np.roll(wrong["probabilities"][0], 1)
    row = measure(exported.files["fp32"], "fp16", images, wrong)
    assert row.agreement == pytest.approx(69 / 70)
    with pytest.raises(ConfigError, match=r"98\.57% get the same class"):
        refuse_missed([row])


def test_lost_accuracy_misses_the_limit_of_int8(exported, images, reference):
    right = {**reference, "probabilities": np.eye(len(CLASSES), dtype=np.float32)[images.labels]}
    row = measure(exported.files["int8"], "int8", images, right)
    assert row.accuracy_torch == 1
    assert row.points_lost > 1
    with pytest.raises(ConfigError, match=r"accuracy falls by \d+\.\d\d points"):
        refuse_missed([row])
    refuse_missed([])


def test_the_table_shows_every_output_and_what_is_missed(exported, images, reference):
    rows = [measure(exported.files["fp32"], precision, images, reference) for precision in ("fp32", "int8")]
    table = parity_table(rows)
    assert [column.header for column in table.columns] == ["", "fp32", "int8"]
    first = list(table.columns[0].cells)
    assert [f"largest difference, {name}" for name in OUTPUTS[:4]] == first[1:5]
    assert list(table.columns[1].cells)[-1] == "kept"
