"""Attribution maps of a model, and of one class against another."""

from pathlib import Path

import torch

from src.explanation.explainer import Explainer
from src.explanation.targets import Target
from src.models.weights import build_from_weights, load_weights

model = build_from_weights(load_weights(Path("pretrained/emonet_fer_small.safetensors")))
images = torch.rand(2, 3, 64, 64)  # RGB in [0, 1], with the side that the weights want

with Explainer(model) as explain:  # a frozen model, too; it is left as it was
    maps = explain(images, [Target("happy"), Target("happy", against="sad")])

print(maps.shape)  # (2, 64, 64)
