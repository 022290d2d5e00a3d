"""What is done to images in [0, 1] before the first layer; part of the network, so that no caller needs to know."""

from __future__ import annotations

from torch import Tensor, nn, tensor

from src.utils.errors import ConfigError

# Means and standard deviations of red, green and blue. ImageNet's are those of torchvision's pretrained models.
NORMALIZATIONS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


class Normalization(nn.Module):
    """Subtracts a mean from each channel and divides by a standard deviation; nothing of it enters a state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        """Create the module.

        Args:
            name: Key of `NORMALIZATIONS`.

        Raises:
            ConfigError: If it is unknown.
        """
        super().__init__()
        if name not in NORMALIZATIONS:
            raise ConfigError(f"backbone.normalize={name}; expected null or one of {', '.join(NORMALIZATIONS)}.")
        for key, values in zip(("mean", "std"), NORMALIZATIONS[name], strict=True):
            self.register_buffer(key, tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalize RGB images in [0, 1], (B, 3, H, W)."""
        return (image - self.mean) / self.std
