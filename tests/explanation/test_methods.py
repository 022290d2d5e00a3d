"""The maps of every method are those that grad-cam 1.5.7 and captum 0.9.0 gave when both were in use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from src.explanation.explainer import Explainer
from src.explanation.targets import Target
from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, load_weights
from src.utils.paths import ROOT
from tests.explanation.test_explainer import make
from tests.models.test_rescaling import noise_and_waves

# Maps at every eleventh pixel, by model, layer and method.
GOLDEN = json.loads((ROOT / "tests/fixtures/explanations.json").read_text())
TARGETS = [Target("happy"), Target("sad", against="neutral")]


def shipped() -> ExpressionClassifier:
    return build_from_weights(load_weights(ROOT / "pretrained" / "emonet_fer_small.safetensors"))


def tiny() -> ExpressionClassifier:
    """A model whose head flattens, with weights that no other release of a package makes otherwise."""
    model, generator = make("linear_flat"), np.random.default_rng(0)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.from_numpy(generator.random(parameter.shape, dtype=np.float32))
            parameter.copy_((values - 0.4) * 4 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else values)
    return model


def explained(model: str, layer: str, method: str) -> Tensor:
    images = noise_and_waves()[::2]  # noise, waves
    with Explainer({"shipped": shipped, "tiny": tiny}[model](), method, layer) as explain:
        return explain(images, TARGETS)[:, 4::11, 4::11]


@pytest.mark.parametrize("case", GOLDEN)
def test_maps_are_those_of_before(case: str) -> None:
    # Processors differ by 1e-6; integrated gradients, at the kinks of ReLUs, by 1e-3.
    atol = 5e-3 if "integrated" in case else 1e-4
    torch.testing.assert_close(explained(*case.split()), torch.tensor(GOLDEN[case]), atol=atol, rtol=0)
