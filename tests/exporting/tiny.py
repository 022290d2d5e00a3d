"""Tiny models as ONNX files."""

from types import SimpleNamespace

import cv2
import numpy as np
import torch

from src.data.faces.generator import draw_face
from src.exporting.deployed import DeployedModel
from src.exporting.onnx_files import export_fp32, save, to_fp16, to_int8
from src.models.classifier import ExpressionClassifier
from src.models.spec import ModelSpec
from src.utils.groups import load_group

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
TRAINED = ("expression", "valence_arousal", "landmarks")
OUTPUTS = ("probabilities", "valence", "arousal", "heatmap", "landmarks")


def tiny_model(head="emonet", *, grayscale=True, outputs=TRAINED, class_names=CLASSES, **fields):
    """Return an untrained EmoNet of width 16 whose batch-norms have statistics, the same each time."""
    torch.manual_seed(1)
    own = load_group("head", head)
    options = {key: value for key, value in own.items() if key not in ("_target_", "defaults", "vocabulary")}
    spec = ModelSpec(
        backbone={"name": "emonet_tiny", "width": 16, "n_hourglass": 1, "n_blocks": 4},
        head={**options, "valence_arousal": True},
        class_names=class_names,
        image_size=64,
        grayscale=grayscale,
        crop="fer2013",
        outputs=outputs,
        trained_on="nothing-0123",
        precision="32-true",
        **fields,
    )
    model = ExpressionClassifier(spec, spec.build_backbone(), spec.build_head())
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            # Below 1, or the untrained network would amplify the rounding of another order of sums.
            torch.nn.init.uniform_(module.weight, 0.2, 0.6)
            torch.nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def faces(n, *, grayscale=False):
    """Return n synthetic faces, uint8 RGB (n, 3, 64, 64)."""
    drawn = np.stack([draw_face(5, i, 64, grayscale=grayscale).image for i in range(n)])
    return np.ascontiguousarray(drawn.transpose(0, 3, 1, 2))


def without_colors(pixels):
    """Make images (n, 3, S, S) gray, the way data sets are."""
    gray = [cv2.cvtColor(image.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY) for image in pixels]
    return np.stack([np.stack([image] * 3) for image in gray])


def torch_outputs(model, pixels):
    """Return what PyTorch says about images, by the names of ONNX's outputs."""
    with torch.no_grad():
        found = model(torch.from_numpy(pixels).float() / 255, landmarks=True)
    values = (found.logits.softmax(1), found.valence, found.arousal, found.heatmap, found.landmarks)
    return {name: value.numpy() for name, value in zip(OUTPUTS, values, strict=True)}


def export_tiny(folder):
    """Export a tiny model in every precision, alone in a folder, unless the files are there already.

    Returns:
        The model, its deployed form and the files.
    """
    model = tiny_model()
    deployed = DeployedModel(model, ("heatmap", "landmarks"))
    kinds = {"fp32": lambda g: g, "fp16": lambda g: to_fp16(g, faces(24)), "int8": lambda g: to_int8(g, faces(24))}
    files = {precision: folder / f"{precision}.onnx" for precision in kinds}
    if not folder.exists():
        folder.mkdir()
        graph = export_fp32(deployed)
        for precision, convert in kinds.items():
            copy = type(graph)()
            copy.CopyFrom(graph)
            save(convert(copy), files[precision], deployed, precision)
    return SimpleNamespace(model=model, deployed=deployed, files=files, folder=folder)
