"""What runs a model on crops of faces: PyTorch here, ONNX Runtime in `src.inference.onnx_backend`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from src.data.vocabulary import canonical_order
from src.models.build import build_model, official_spec
from src.models.classifier import ExpressionClassifier
from src.models.spec import ModelSpec
from src.models.weights import build_from_weights, load_weights
from src.runs.layout import find_checkpoint
from src.utils.cpu_precision import autocast
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.precision import resolve_precision

if TYPE_CHECKING:
    from src.explanation.explainer import Explainer

log = logging.getLogger(__name__)

# The vocabulary of weights with several that predictions use: FER+'s labels are those of many people.
PREFERRED_VOCABULARY = "ferplus"
# Largest part of a batch on a CPU, in pixels: 4 crops of 256 px or 64 of 64 px. The memory of larger feature maps goes
# back to the system after every layer, and is handed out again page by page: 16 crops of 256 px took 0.8 s in fours and
# 1.6 s at once (bf16), or 1.8 and 3.7 s (float32).
PIXELS_AT_ONCE = 4 * 256**2
# What half precision may add to a probability.
ROUNDING = 1e-3
# Names of the authors' files, and of their configurations.
OFFICIAL = ("emonet_8", "emonet_5")


class BackendOutput(NamedTuple):
    """Outputs for B crops, on the CPU in float32; what a model was not trained for is None.

    Attributes:
        probabilities: Class probabilities, (B, n_classes).
        valence: (B,), trained towards [-1, 1].
        arousal: (B,), likewise.
        landmarks: x and y of the 68 iBUG points in pixels of the S x S crop, 0 being the center of the first one,
            (B, 68, 2).
    """

    probabilities: Tensor
    valence: Tensor | None = None
    arousal: Tensor | None = None
    landmarks: Tensor | None = None


def require_predictions(output: BackendOutput, source: str) -> BackendOutput:
    """Return outputs that are predictions.

    Args:
        output: What a model gives.
        source: The model, for the message.

    Raises:
        ConfigError: If probabilities are none, or valence or arousal is not finite.
    """
    values = output.probabilities
    wrong = [name for name in ("valence", "arousal") if not _is_finite(getattr(output, name))]
    if bool(((values - 0.5).abs() > 0.5 + ROUNDING).any()) or not bool(((values.sum(dim=1) - 1).abs() < 0.05).all()):
        wrong.insert(0, "probabilities")
    if wrong:
        raise ConfigError(
            f"{source} gives {' and '.join(wrong)} that cannot be: NaN, infinite, or no probabilities in [0, 1] that "
            "sum to 1. The file is damaged, or another one in its place: use other weights, or export it again."
        )
    return output


class Backend(Protocol):
    """A model that predicts crops.

    Attributes:
        class_names: Classes in the order of the probabilities.
        image_size: Size S of the crops in pixels.
        grayscale: Whether the model expects crops without colors (still three channels).
        crop: Which square of a face the crops show: a name of `src.models.crops.CROPS`.
        outputs: Trained outputs, of `expression`, `valence_arousal`, `landmarks`.
    """

    class_names: tuple[str, ...]
    image_size: int
    grayscale: bool
    crop: str
    outputs: tuple[str, ...]

    def __call__(self, images: Tensor) -> BackendOutput:
        """Predict RGB crops in [0, 1], float32, (B, 3, S, S)."""
        ...


class TorchBackend:
    """A model in PyTorch, in evaluation mode, for any number of threads; see `Backend` for its attributes.

    Attributes:
        model: The model.
        device: Device that it is on.
        precision: Lightning's name of the numeric precision.
    """

    def __init__(
        self,
        model: ExpressionClassifier,
        *,
        device: str = "auto",
        precision: str = "auto",
        source: str = "the model",
    ) -> None:
        """Prepare a model.

        Args:
            model: The model.
            device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
            precision: Numeric precision as in `src.utils.precision`; `auto` takes bf16 where the hardware has it.
            source: Where it comes from, for messages.

        Raises:
            ConfigError: If the machine lacks the device, or the precision is unknown.
        """
        spec = model.spec
        self.class_names, self.image_size, self.grayscale = spec.class_names, spec.image_size, spec.grayscale
        self.crop, self.outputs = spec.crop, spec.outputs
        self.device = _device(device)
        self.precision = resolve_precision(precision, self.device.type)
        self.model = model.to(self.device).eval()
        self._source = source
        self._explainer: Explainer | None = None
        # An explanation hooks into the model: what another thread predicts meanwhile would become part of it. Two
        # predictions would share the cores in any case.
        self._lock = threading.Lock()
        if self.precision == "64-true":
            self.model = self.model.double()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made anew elsewhere."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_explainer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it anew."""
        self.__dict__.update(state, _lock=threading.Lock(), _explainer=None)

    @classmethod
    def from_weights(cls, location: str, *, vocabulary: str | None = None, **options: str) -> TorchBackend:
        """Load weights.

        Args:
            location: A run directory, a `.ckpt` or a `.safetensors`; or the authors' `emonet_8.pth` or `emonet_5.pth`.
            vocabulary: Which classification of weights that have several; None takes `ferplus` if there is one.
            **options: Further arguments of the constructor.

        Raises:
            ConfigError: If the weights are missing or broken, or lack the vocabulary.
        """
        if location.endswith(".pth"):
            return cls(_official_model(location, vocabulary), source=location, **options)
        weights = load_weights(find_checkpoint(location))
        weights = replace(weights, spec=choose_vocabulary(weights.spec, vocabulary))
        return cls(build_from_weights(weights), source=location, **options)

    def __call__(self, images: Tensor) -> BackendOutput:
        """Predict RGB crops in [0, 1], float32, (B, 3, S, S).

        Raises:
            ConfigError: If the outputs are no predictions.
        """
        n = len(images)
        if self.device.type == "cpu":
            n = max(1, min(n, PIXELS_AT_ONCE // self.image_size**2))
        outputs = []
        for i in range(0, len(images), n):
            with self._lock:
                outputs.append(self._finite(images[i : i + n]))
        joined = (None if part[0] is None else torch.cat(part) for part in zip(*outputs, strict=True))
        output = BackendOutput(*joined)  # type: ignore[arg-type]  # there always are probabilities
        return require_predictions(output, self._source)

    def _finite(self, images: Tensor) -> BackendOutput:
        """Predict; what overflows in fp16 is predicted in float32, from then on."""
        output = self._predict(images)
        if self.precision == "16-mixed" and not bool(output.probabilities.isfinite().all()):
            log.warning(
                "These weights exceed half precision: going on in 32-true. python -m src.release rescales them."
            )
            self.precision = "32-true"
            output = self._predict(images)
        return output

    def _predict(self, images: Tensor) -> BackendOutput:
        x = images.to(self.device, torch.float64 if self.precision == "64-true" else torch.float32)
        with torch.inference_mode(), autocast(self.device.type, self.precision):
            prediction = self.model(x.contiguous(memory_format=torch.channels_last), landmarks=True)
            probabilities = self.model.probabilities(prediction)
        affect = "valence_arousal" in self.outputs
        return BackendOutput(
            _plain(probabilities),
            _plain(prediction.valence) if affect else None,
            _plain(prediction.arousal) if affect else None,
            None if prediction.landmarks is None else _plain(prediction.landmarks),
        )

    def explain(self, images: Tensor, classes: Sequence[str]) -> Tensor:
        """Return where the attribution for a class of each crop is: Grad-CAM, or HiResCAM for heads that flatten a map.

        Args:
            images: RGB crops in [0, 1], float32, (B, 3, S, S).
            classes: A class for each, B.

        Returns:
            Maps in [0, 1], (B, S, S).

        Raises:
            ConfigError: If the packages of the extra `explain` are missing.
        """
        from src.explanation.explainer import Explainer
        from src.explanation.targets import Target

        with self._lock:
            if self._explainer is None:
                self._explainer = Explainer(self.model)
            with self._explainer as explainer:
                return explainer(images, [Target(name) for name in classes])


def choose_vocabulary(spec: ModelSpec, vocabulary: str | None) -> ModelSpec:
    """Return the model with the classification that predictions use.

    Args:
        spec: The model.
        vocabulary: Name of one of its vocabularies; None takes `ferplus` if there is one, else the one it has.

    Raises:
        ConfigError: If the model has no such vocabulary.
    """
    if vocabulary is None and PREFERRED_VOCABULARY in spec.vocabularies:
        vocabulary = PREFERRED_VOCABULARY
    return spec if vocabulary is None else spec.with_vocabulary(vocabulary)


def _official_model(location: str, vocabulary: str | None) -> ExpressionClassifier:
    """Load the authors' weights, whose file names tell which they are."""
    path = Path(location).expanduser()
    if path.stem not in OFFICIAL:
        raise ConfigError(f"ckpt_path={location}; of .pth files, expected {' or '.join(OFFICIAL)}.pth.")
    backbone = {**load_group("backbone", path.stem), "weights": str(path)}
    spec = official_spec(backbone, load_group("head", "emonet"), canonical_order(backbone["class_names"]))
    return build_model(choose_vocabulary(spec, vocabulary), backbone)


def _is_finite(values: Tensor | None) -> bool:
    return values is None or bool(values.isfinite().all())


def _plain(values: Tensor) -> Tensor:
    return values.float().cpu()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device={name} is not to be had here ({reason}); use device=cpu or device=auto.") from error
    return device
