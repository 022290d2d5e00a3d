"""A tiny model, and scenes with faces."""

import numpy as np
import pytest
import torch

from src.data.faces.generator import draw_face
from src.models.classifier import ExpressionClassifier
from src.models.spec import ModelSpec
from src.models.weights import save_safetensors

SEVEN = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")


def tiny_model(*, outputs=("expression", "valence_arousal"), grayscale=True, **changes):
    """Return an untrained EmoNet of width 16, the same each time."""
    torch.manual_seed(3)
    spec = ModelSpec(
        backbone={"name": "emonet_tiny", "width": 16, "n_hourglass": 1, "n_blocks": 4},
        head={"name": "emonet", "tap": "pooled", "valence_arousal": True},
        class_names=SEVEN,
        image_size=64,
        grayscale=grayscale,
        crop="fer2013",
        outputs=outputs,
        trained_on="nothing",
        precision="32-true",
        **changes,
    )
    model = ExpressionClassifier(spec, spec.build_backbone(), spec.build_head())
    # With the statistics of faces, and logits that differ between them.
    for parameter in model.head.fc[3].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    faces = np.stack([draw_face(1, i, 64, grayscale=grayscale).image for i in range(16)])
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # one batch is enough
    with torch.no_grad():
        model.train()(torch.from_numpy(faces).permute(0, 3, 1, 2) / 255)
    return model.eval()


def faces_tensor(n, grayscale=True):
    """Return n synthetic faces, RGB in [0, 1], (n, 3, 64, 64)."""
    faces = np.stack([draw_face(2, i, 64, grayscale=grayscale).image for i in range(n)])
    return torch.from_numpy(faces).permute(0, 3, 1, 2) / 255


def assert_close(found, expected):
    """Compare outputs of the untrained network, which amplifies the rounding of another order of sums."""
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_safetensors(tiny_model(), path)
    return str(path)
