"""What an exported ONNX file says about itself: the input contract, in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from src.models.crops import CROPS
from src.models.prediction import Prediction
from src.models.spec import ModelSpec
from src.utils.errors import ConfigError

SPEC_KEY = "model_spec"
ORIGIN_KEY = "origin"
INPUT_NAME = "images"
PRECISIONS = ("fp32", "fp16", "int8")
# What the graph's outputs are, by name. The first is always there; `probabilities_<vocabulary>` comes with a second
# classification.
PROBABILITIES = "probabilities"
OUTPUTS = {
    PROBABILITIES: "class probabilities, (batch, classes), in the order of class_names",
    "valence": "valence, (batch,), trained towards [-1, 1]",
    "arousal": "arousal, (batch,), trained towards [-1, 1]",
    "heatmap": "landmark heat maps in iBUG order, (batch, 68, side / 4, side / 4)",
    "landmarks": "x and y of the 68 iBUG points in pixels of the input, 0 being the first one's center, (batch, 68, 2)",
}


def write_metadata(spec: ModelSpec, output_names: tuple[str, ...], precision: str) -> dict[str, str]:
    """Return the metadata of an exported file.

    Args:
        spec: What the file holds: its classifications, and the trained outputs that it gives.
        output_names: The graph's outputs.
        precision: `fp32`, `fp16` or `int8`.

    Returns:
        Text by key; `model_spec`, `input`, `outputs` and `class_names` are JSON.
    """
    image = {
        "name": INPUT_NAME,
        "type": "uint8",
        "shape": ["batch", 3, spec.image_size, spec.image_size],
        "colour": "RGB",
        "range": [0, 255],
        "normalisation": "inside the graph: give pixels as they are",
        "grayscale": spec.grayscale,
        "grayscale_note": "the graph takes the colors away itself" if spec.grayscale else "colors are used",
        "crop": spec.crop,
        "crop_note": CROPS[spec.crop],
    }
    return {
        SPEC_KEY: json.dumps(spec.to_dict()),
        "input": json.dumps(image),
        "outputs": json.dumps({name: _description(name, spec) for name in output_names}),
        "class_names": json.dumps(spec.class_names),
        "precision": precision,
        "trained_on": spec.trained_on,
        "licence": spec.terms,
    }


def named_outputs(prediction: Prediction, spec: ModelSpec) -> dict[str, Tensor | None]:
    """Return what a model says by the names of `OUTPUTS`; what it does not have is None.

    Args:
        prediction: Outputs for a batch.
        spec: The model.
    """
    named = {PROBABILITIES: prediction.logits.softmax(dim=1)}
    if prediction.second_logits is not None and spec.second_vocabulary is not None:
        temperature = spec.temperatures.get(spec.second_vocabulary, 1.0)
        named[probabilities_name(spec.second_vocabulary)] = (prediction.second_logits / temperature).softmax(dim=1)
    return named | {name: getattr(prediction, name) for name in OUTPUTS if name != PROBABILITIES}


def probabilities_name(vocabulary: str) -> str:
    """Return the name of the output for a classification that is not the file's first one."""
    return f"{PROBABILITIES}_{vocabulary}"


def _description(name: str, spec: ModelSpec) -> str:
    if name in OUTPUTS:
        return OUTPUTS[name]
    classes = ", ".join(spec.vocabularies[name.removeprefix(f"{PROBABILITIES}_")])
    return f"class probabilities of a second classification, (batch, classes): {classes}"


def write_origin(weights: str, parity: Mapping[str, Any]) -> dict[str, str]:
    """Return what an exported file says of where it comes from.

    Args:
        weights: Digest of the weights, see `src.models.weights.weights_digest`.
        parity: How it compares with them, in names and numbers.
    """
    return {ORIGIN_KEY: json.dumps({"weights": weights, "parity": dict(parity)})}


def onnx_beside(weights: Path, precision: str) -> Path:
    """Return where the exported file of a weights file is looked for."""
    return weights.with_name(f"{weights.stem}_{precision}.onnx")


def read_origin(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what `write_origin` wrote, {} for files without it."""
    try:
        content = json.loads(metadata.get(ORIGIN_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_metadata(metadata: Mapping[str, str], path: object) -> ModelSpec:
    """Return what an exported file holds.

    Args:
        metadata: The file's metadata.
        path: The file, for the message.

    Raises:
        ConfigError: If the file is not one of ours.
    """
    try:
        description = json.loads(metadata[SPEC_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no ONNX file of this framework (no readable {SPEC_KEY!r} in its metadata); make one with "
            "python -m src.export ckpt_path=..."
        ) from error
    return ModelSpec.from_dict(description, path)
