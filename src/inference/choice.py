"""Which backend runs given weights fastest on this machine, of those that agree with them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.inference.backend import Backend, TorchBackend, choose_vocabulary
from src.inference.onnx_backend import OnnxBackend
from src.models.onnx_metadata import onnx_beside
from src.models.spec import ModelSpec
from src.models.weights import Weights, build_from_weights, load_weights, weights_digest
from src.runs.hub import is_on_hub
from src.runs.layout import find_checkpoint
from src.utils.errors import ConfigError
from src.utils.precision import device_kind, native_bf16

log = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "onnx")
# Fastest first: docs/performance.md.
FASTEST = ("int8", "fp32")
# Largest loss of accuracy with which a file still agrees with its weights, in percentage points.
MAX_POINTS_LOST = 0.5


def load_backend(
    name: str,
    weights: str,
    *,
    vocabulary: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    gradients: bool = False,
) -> Backend:
    """Load weights into what runs them.

    Args:
        name: `torch`; `onnx` for a file of `python -m src.export`, which has its own precision; or `auto`, the fastest
            here.
        weights: A run directory, a `.ckpt`, a `.safetensors` or `hf://owner/name`; for `onnx` and `auto`, also an
            `.onnx` file.
        vocabulary: Which classification of weights that have several; None takes `ferplus` if there is one, or what the
            export of an `.onnx` file chose.
        device: `auto`, `cpu` or `cuda`.
        precision: Numeric precision as in `src.utils.precision`.
        gradients: Whether the backend has to explain its predictions.

    Raises:
        ConfigError: If the weights cannot be had.
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend={name}; expected one of {', '.join(BACKENDS)}.")
    if is_on_hub(weights):
        weights = str(find_checkpoint(weights))
    if name == "onnx" or (name == "auto" and weights.endswith(".onnx")):
        return OnnxBackend(weights, vocabulary=vocabulary, device=device)
    options = {"device": device, "precision": precision}
    if name == "torch" or weights.endswith(".pth"):
        return TorchBackend.from_weights(weights, vocabulary=vocabulary, **options)
    loaded = load_weights(find_checkpoint(weights))
    loaded = replace(loaded, spec=choose_vocabulary(loaded.spec, vocabulary))
    reason = why_torch(device=device, precision=precision, gradients=gradients)
    if reason is None:
        for backend in _beside(loaded):
            return backend
        reason = (
            f"there is no ONNX file beside {loaded.path.name} that agrees with it; python -m src.export "
            "onnx.precision=int8 onnx.beside=true would put one there"
        )
    torch_backend = TorchBackend(build_from_weights(loaded), source=weights, **options)
    log.info("Backend: PyTorch, %s: %s.", torch_backend.precision, reason)
    return torch_backend


def why_torch(*, device: str, precision: str, gradients: bool) -> str | None:
    """Return why PyTorch is to run a model here; None where ONNX Runtime is faster, if it has a file."""
    if gradients:
        return "heat maps need gradients"
    if precision != "auto":
        return f"precision={precision} was asked for"
    if device_kind(device) == "cuda" or device not in ("auto", "cpu"):
        return f"device={device} is a GPU"
    native = native_bf16()
    return f"this processor computes bf16 itself ({', '.join(native)})" if native else None


def _beside(weights: Weights) -> Iterator[Backend]:
    """Yield the exported files beside weights that agree with them, the fastest first."""
    for kind in FASTEST:
        path = onnx_beside(weights.path, kind)
        if not path.is_file():
            continue
        try:
            backend = _open(path, weights.spec)
        except ConfigError as error:
            log.warning("%s is left aside: %s", path.name, error)
            continue
        parity = _parity(backend)
        obstacle = _disagreement(backend, weights, parity)
        if obstacle:
            log.warning("%s is left aside: %s. Export it again.", path.name, obstacle)
            continue
        log.info(
            "Backend: ONNX Runtime, %s (%s): no bf16 here, and %.2f %% of %d images right, PyTorch %.2f %%.",
            *(kind, path.name, 100 * parity["accuracy"], parity["pictures"], 100 * parity["accuracy_torch"]),
        )
        yield backend


def _open(path: Path, spec: ModelSpec) -> OnnxBackend:
    own = next((name for name, classes in spec.vocabularies.items() if classes == spec.class_names), None)
    return OnnxBackend(str(path), vocabulary=own, device="cpu")


def _parity(backend: OnnxBackend) -> dict[str, Any]:
    """Return what a file says of how it compares with its weights, {} if it does not say so in numbers."""
    parity = backend.origin.get("parity")
    numbers = ("accuracy", "accuracy_torch", "points_lost", "pictures")
    if not isinstance(parity, dict) or not all(isinstance(parity.get(name), int | float) for name in numbers):
        return {}
    return parity


def _disagreement(backend: OnnxBackend, weights: Weights, parity: dict[str, Any]) -> str | None:
    """Return in what a file does not stand for weights, None if it does."""
    if backend.origin.get("weights") != weights_digest(weights.state):
        return f"it was not made from {weights.path.name}"
    missing = [name for name in weights.spec.outputs if name not in backend.outputs]
    if missing:
        return f"it does not give {', '.join(missing)}"
    if not parity:
        return "it does not say how well it agrees with its weights"
    if parity.get("passed") is not True or not parity["points_lost"] <= MAX_POINTS_LOST:
        return f"it loses more than {MAX_POINTS_LOST:g} points of accuracy"
    return None
