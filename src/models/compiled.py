"""A backbone compiled for prediction: inductor with frozen weights, and its code kept between runs."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from src.models.arguments import Tap
from src.models.emonet import EmoNet
from src.utils.cpu_precision import autocast
from src.utils.errors import ConfigError

if TYPE_CHECKING:
    from src.models.classifier import ExpressionClassifier

log = logging.getLogger(__name__)

CompileChoice = bool | Literal["auto"]
# Images of 256 px from which a full-size EmoNet (14 M parameters) is worth half a minute of compiling on two cores:
# docs/performance.md. Fewer for float32, which gains more an image.
WORTH_COMPILING = {True: 4000, False: 800}
REFERENCE_IMAGE_SIZE, REFERENCE_PARAMETERS = 256, 14e6


class CompiledBackbone:
    """Features and last heat maps of a backbone, compiled for batches of one size; others are cut and filled up to it.

    Attributes:
        batch_size: Images in a batch.
    """

    def __init__(self, backbone: EmoNet, tap: Tap, batch_size: int, heatmaps: bool) -> None:
        """Prepare to compile at the first call.

        Args:
            backbone: The backbone, in evaluation mode.
            tap: Tap of the features.
            batch_size: Images in a batch.
            heatmaps: Whether heat maps are wanted; they slow it down by a sixth.
        """
        self.batch_size = batch_size
        self._run = torch.compile(_Backbone(backbone, tap, heatmaps))

    def __call__(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and heat maps of images (B, 3, S, S) of the size and in the precision of the first call."""
        # The compiler tells inference mode from no_grad, and the tensors of one from those of the other.
        with torch.inference_mode():
            parts = [self._fixed(part) for part in image.split(self.batch_size)]
            features, *heatmaps = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        return features, tuple(heatmaps)

    def _fixed(self, image: Tensor) -> list[Tensor]:
        # Another batch size, or layout, would be compiled anew, for half a minute.
        shape = (self.batch_size, *image.shape[1:])
        filled = torch.zeros(shape, dtype=image.dtype, device=image.device).to(memory_format=torch.channels_last)
        filled[: len(image)] = image
        return [output[: len(image)] for output in self._run(filled)]


class _Backbone(nn.Module):
    """What of a backbone is compiled."""

    def __init__(self, backbone: EmoNet, tap: Tap, heatmaps: bool) -> None:
        super().__init__()
        self.backbone, self.tap, self.heatmaps = backbone, tap, heatmaps

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        fused, heatmaps = self.backbone.fuse(image)
        features = self.backbone.after_fusion(fused, self.tap)
        return (features, heatmaps[-1]) if self.heatmaps else (features,)


def compile_for_prediction(
    model: ExpressionClassifier,
    choice: CompileChoice,
    *,
    n_images: int,
    image_size: int,
    batch_size: int,
    precision: str,
    cache: Path,
) -> float | None:
    """Compile a model's backbone for prediction, if that pays or is asked for; its weights must not change afterwards.

    Args:
        model: Model on the CPU, which is set to evaluation mode.
        choice: true, false, or auto: where the job has enough images.
        n_images: Images to predict.
        image_size: Their size in pixels.
        batch_size: Images a batch.
        precision: Lightning's name of the precision.
        cache: Folder for the compiled code.

    Returns:
        The seconds that it took, None if the backbone is used as it is.

    Raises:
        ConfigError: If `compile=true` cannot be had here.
    """
    bf16 = precision == "bf16-mixed"
    parameters = sum(p.numel() for p in model.backbone.parameters())
    worth = n_images * (image_size / REFERENCE_IMAGE_SIZE) ** 2 * parameters / REFERENCE_PARAMETERS
    if choice is False or (choice == "auto" and (worth < WORTH_COMPILING[bf16] or torch.cuda.is_available())):
        return None
    try:
        seconds = _compile(model, image_size, batch_size, precision, cache)
    except Exception as error:  # whatever a compiler may say
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if choice is True:
            raise ConfigError(
                f"compile=true, but the backbone cannot be compiled here ({reason}). Install a C++ compiler (g++), or "
                "set compile=false."
            ) from error
        log.warning("The backbone is not compiled (%s).", reason)
        return None
    log.info("Compiled the backbone in %.0f s for batches of %d.", seconds, batch_size)
    return seconds


def _compile(model: ExpressionClassifier, image_size: int, batch_size: int, precision: str, cache: Path) -> float:
    start = time.perf_counter()
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise RuntimeError("no C++ compiler was found")
    # Seconds of imports, for who compiles only.
    from torch._inductor import config as inductor
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):  # torch sets the default by itself
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    log.info("Compiling the backbone; the code is kept in %s", os.environ["TORCHINDUCTOR_CACHE_DIR"])
    model.eval()
    backbone = CompiledBackbone(model.backbone, model.head.tap, batch_size, "landmarks" in model.spec.outputs)
    image = torch.zeros(batch_size, 3, image_size, image_size)
    # Freezing as an option of torch.compile would leave the weights as inputs: another part of torch reads it here.
    with inductor.patch(freezing=True), torch.no_grad(), autocast("cpu", precision):
        backbone(image)
    model.use_compiled(backbone)
    return time.perf_counter() - start
