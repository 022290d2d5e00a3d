"""ONNX files in single, half and 8-bit precision."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from src.exporting.deployed import DeployedModel
from src.models.onnx_metadata import INPUT_NAME, write_metadata
from src.utils.atomic_files import atomic_write

log = logging.getLogger(__name__)

OPSET = 18
CALIBRATION_BATCH = 16
# Sums and concatenations stay in float: rounding them costs accuracy, and gains a tenth of the time.
QUANTIZED = ["Conv", "Gemm", "MatMul"]
# The stem, whose rounding spreads through all that follows, stays in float, too, and what makes the heat maps: where
# they find landmarks they are peaks, and they gate the features. On PublicTest `emonet_fer` then agrees with itself on
# 99.2 %, with heat maps of 8 bits on 89.6 %.
STEM = tuple(f"backbone.conv{i}." for i in range(1, 5))
HEAT_MAPS = tuple(f"backbone.{part}" for part in ("top_m_", "conv_last", "bn_end", "l0.", "l1.", "al0."))
# Ending of the names of a batch-norm's weights, where it has become a convolution.
NORM_WEIGHT = "_over_deviation"
FLOAT = (*STEM, *HEAT_MAPS, NORM_WEIGHT)
# Half precision ends at 65,504; unseen images may give larger values than those looked at.
HALF_LIMIT = 65504 / 4


def export_fp32(model: DeployedModel) -> onnx.ModelProto:
    """Return the network as an ONNX graph in single precision, with dynamic batch size."""
    size = model.spec.image_size
    # Two images: a batch of one would become a constant.
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=list(model.output_names),
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return _without_traces(program.model_proto)


def to_fp16(graph: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the graph in half precision; inputs, outputs and what half precision cannot hold stay what they are.

    Args:
        graph: Graph in single precision.
        images: Training images that show how large values get, (N, 3, S, S).
    """
    with _quiet():
        wide = _wide_nodes(graph, images)
        half = OnnxModel(convert_float_to_float16(graph, keep_io_types=True, node_block_list=wide))
        # The converter also casts to half precision and back what goes from one node in single precision to another.
        half.remove_cascaded_cast_nodes()
    if wide:
        log.info("In single precision stay, with values beyond %.0f: %s", HALF_LIMIT, ", ".join(wide))
    # It appends the casts that it adds.
    half.topological_sort()
    return half.model  # type: ignore[no-any-return]


def to_int8(graph: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the graph with 8-bit convolutions and matrix products, quantized statically, but for stem and heat maps.

    Weights have a scale per output channel and 7 bits: without VNNI instructions, x86 processors add pairs of products
    in 16 bits, which 8 would overflow.

    Args:
        graph: Graph in single precision.
        images: Training images that the ranges of activations are taken from, (N, 3, S, S).
    """
    with TemporaryDirectory() as folder, _quiet():
        plain, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantized"))
        onnx.save(_with_convolved_norms(graph), plain)
        # Its symbolic shape inference does not know all operators; onnx's own suffices.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=[n.name for n in onnx.load(prepared).graph.node if _reads(n, FLOAT)],
        )
        return onnx.load(quantized)


def _with_convolved_norms(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose batch-norms are 1x1 convolutions of each channel by itself.

    Those are quantized with the others and need no other layout, and unlike ONNX Runtime's batch-norms they use all
    threads: of two, a batch of 16 through `emonet_fer_small` takes a sixth less time.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        if node.op_type == "BatchNormalization" and all(name in constants for name in node.input[1:]):
            scale, bias, mean, variance = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:])
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            weight = (scale / np.sqrt(variance + epsilon)).astype(np.float32)
            names = [f"{node.input[1]}{NORM_WEIGHT}", f"{node.input[2]}_less_mean"]
            for name, values in zip(names, (weight.reshape(-1, 1, 1, 1), bias - mean * weight), strict=True):
                constants[name] = onnx.numpy_helper.from_array(values, name)
            inputs = [node.input[0], *names]
            node = onnx.helper.make_node("Conv", inputs, node.output, node.name, group=len(weight), kernel_shape=[1, 1])
        copy.graph.node.append(node)
    used = {name for node in copy.graph.node for name in node.input}
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    return copy


def _reads(node: onnx.NodeProto, parts: tuple[str, ...]) -> bool:
    """Whether a node reads weights of some parts of the network."""
    return any(part in name for name in node.input for part in parts)


def _wide_nodes(graph: onnx.ModelProto, images: NDArray[np.uint8]) -> list[str]:
    """Return the names of the nodes with a value near or beyond the range of half precision.

    The luma of colors, counted in units of 2**-15, does; so did the sums of an EmoNet's residual blocks before
    `src.models.rescaling`.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    large = {name for name, values in constants.items() if _peak(values) > HALF_LIMIT}
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        onnx.save(graph, plain)
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            plain, None, augmented_model_path=augmented, calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Images(images))
        for name, data in calibrator.compute_data().items():
            if _peak(np.array(data.range_value)) > HALF_LIMIT:
                large.add(name)
    return [node.name for node in graph.graph.node if large & {*node.input, *node.output}]


def _peak(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max()) if values.size and np.issubdtype(values.dtype, np.floating) else 0.0


def save(graph: onnx.ModelProto, path: Path, model: DeployedModel, precision: str) -> None:
    """Write a graph with its metadata as one file.

    Args:
        graph: The graph.
        path: File to write.
        model: What was exported.
        precision: `fp32`, `fp16` or `int8`.
    """
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, write_metadata(model.spec, model.output_names, precision))
    graph.producer_name = "emonet-fer"
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def publish(source: Path, target: Path, notes: Mapping[str, str]) -> None:
    """Copy a file to where others look for it, with notes added to its metadata."""
    graph = onnx.load(source)
    for key, value in notes.items():
        graph.metadata_props.add(key=key, value=value)
    with atomic_write(target) as scratch:
        onnx.save(graph, scratch)


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Batches of images for the quantizer."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches = (images[i : i + CALIBRATION_BATCH] for i in range(0, len(images), CALIBRATION_BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def _without_traces(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Take away what the exporter notes about its caller: source lines and paths of this machine."""
    parts = [graph.graph, *graph.functions]
    for part in parts:
        del part.metadata_props[:]
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        del value.metadata_props[:]
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters' remarks on what is done on purpose."""
    ort.set_default_logger_severity(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
            ort.set_default_logger_severity(2)
