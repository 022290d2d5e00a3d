"""What an exported ONNX file says about itself: the input contract, in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping

from src.models.spec import ModelSpec
from src.utils.errors import ConfigError

SPEC_KEY = "model_spec"
INPUT_NAME = "images"
# What the graph's outputs are, by name; the first is always there.
OUTPUTS = {
    "probabilities": "class probabilities, (batch, classes), in the order of class_names",
    "valence": "valence, (batch,), trained towards [-1, 1]",
    "arousal": "arousal, (batch,), trained towards [-1, 1]",
    "heatmap": "landmark heat maps in iBUG order, (batch, 68, side / 4, side / 4)",
    "landmarks": "x and y of the 68 iBUG points in pixels of the input, 0 being the first one's centre, (batch, 68, 2)",
}
OFFICIAL_BACKBONES = ("emonet_5", "emonet_8")


def write_metadata(spec: ModelSpec, output_names: tuple[str, ...], precision: str) -> dict[str, str]:
    """Return the metadata of an exported file.

    Args:
        spec: What the file holds: one classification, and the trained outputs that it gives.
        output_names: The graph's outputs.
        precision: `fp32`, `fp16` or `int8`.

    Returns:
        Text by key; `model_spec`, `input`, `outputs` and `class_names` are JSON.
    """
    picture = {
        "name": INPUT_NAME,
        "type": "uint8",
        "shape": ["batch", 3, spec.image_size, spec.image_size],
        "colour": "RGB",
        "range": [0, 255],
        "normalisation": "inside the graph: give pixels as they are",
        "grayscale": spec.grayscale,
        "grayscale_note": "the graph takes the colours away itself" if spec.grayscale else "colours are used",
        "crop": spec.crop,
    }
    return {
        SPEC_KEY: json.dumps(spec.to_dict()),
        "input": json.dumps(picture),
        "outputs": json.dumps({name: OUTPUTS[name] for name in output_names}),
        "class_names": json.dumps(spec.class_names),
        "precision": precision,
        "trained_on": spec.trained_on,
        "licence": licence(spec),
    }


def licence(spec: ModelSpec) -> str:
    """Return under which terms weights may be used."""
    judged = "Not to be used to judge people."
    if spec.backbone["name"] in OFFICIAL_BACKBONES:
        return (
            "CC BY-NC-ND 4.0: holds the weights of EmoNet's authors (https://github.com/face-analysis/emonet), not to "
            f"be passed on in another form. Trained on: {spec.trained_on}. {judged}"
        )
    return (
        "Research use: the terms of the data apply that these weights, and those they started from, were trained on "
        f"({spec.trained_on}). {judged}"
    )


def read_metadata(metadata: Mapping[str, str], path: object) -> ModelSpec:
    """Return what an exported file holds.

    Args:
        metadata: The file's metadata.
        path: The file, for the message.

    Raises:
        ConfigError: If the file is not one of ours.
    """
    try:
        return ModelSpec.from_dict(json.loads(metadata[SPEC_KEY]))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} is no ONNX file of this framework (no readable {SPEC_KEY!r} in its metadata); make one with "
            "python -m src.export ckpt_path=..."
        ) from error
