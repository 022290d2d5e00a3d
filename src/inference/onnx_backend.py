"""Runs an exported model with ONNX Runtime; PyTorch has no part in it but for the tensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.inference.backend import BackendOutput, require_predictions
from src.inference.onnx_operators import LOOPS, operators
from src.models.onnx_metadata import INPUT_NAME, PROBABILITIES, probabilities_name, read_metadata, read_origin
from src.utils.errors import ConfigError

# Largest part of a batch on a CPU, in pixels, which stays in the caches: 64 crops of 64 px took 5.2 ms each in eights
# and 6.4 ms at once (8 bits, two cores).
PIXELS_AT_ONCE = 8 * 64**2
# Bytes; 8 crops of 64 px take 40 MB. A node of a few bytes could ask for any number.
MAX_MEMORY = 2**31
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """A file of `python -m src.export`; see `src.inference.backend.Backend` for its attributes.

    Attributes:
        location: The file.
        output_names: Names of the file's outputs.
        origin: What the file says of the weights that it was made from, and how it compares with them.
        providers: What ONNX Runtime runs it on.
    """

    def __init__(self, location: str, *, vocabulary: str | None = None, device: str = "auto") -> None:
        """Open a file.

        Args:
            location: The `.onnx` file.
            vocabulary: Which classification of a file that has several; None takes the one that its export chose.
            device: `auto` (CUDA if ONNX Runtime has it), `cpu` or `cuda`.

        Raises:
            ConfigError: If the file is missing, broken or not ours, or the device is not to be had.
        """
        self.location, path = location, Path(location).expanduser()
        self._opened = (location, vocabulary, device)
        if not path.is_file():
            raise ConfigError(
                f"{location} does not exist; backend=onnx expects an .onnx file, which python -m src.export writes."
            )
        import onnxruntime as ort

        _bound_memory()
        # onnxruntime has no common class of its errors; any of them means that the file cannot be run.
        try:
            if loops := LOOPS.intersection(operators(path.read_bytes())):
                raise ConfigError(f"{location} has the operator {min(loops)}, which need not end; export it again.")
            options = ort.SessionOptions()
            options.add_session_config_entry("session.use_env_allocators", "1")
            # Between two runs its threads would keep the cores busy, waiting, while faces are looked for.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            providers = _providers(device, ort.get_available_providers())
            self._session = ort.InferenceSession(path, options, providers=providers)
            metadata = self._session.get_modelmeta().custom_metadata_map
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{location} cannot be read as an ONNX file ({_reason(error)}); export it again."
            ) from error
        chosen = read_metadata(metadata, location)
        spec = chosen if vocabulary is None else chosen.with_vocabulary(vocabulary)
        own = spec.class_names == chosen.class_names
        self._probabilities = PROBABILITIES if own else probabilities_name(str(vocabulary))
        self.origin = read_origin(metadata)
        self.class_names, self.image_size, self.grayscale = spec.class_names, spec.image_size, spec.grayscale
        self.crop, self.outputs = spec.crop, spec.outputs
        self.output_names = tuple(output.name for output in self._session.get_outputs())
        self.providers = tuple(self._session.get_providers())

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to open it elsewhere, from the same file."""
        return _reopen, self._opened

    def run(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run the file on RGB images in [0, 255], (B, 3, S, S).

        Returns:
            Every output by name; see `src.models.onnx_metadata.OUTPUTS`.

        Raises:
            ConfigError: If it fails.
        """
        try:
            values = self._session.run(self.output_names, {INPUT_NAME: np.ascontiguousarray(pixels)})
        except Exception as error:
            raise ConfigError(f"{self.location} cannot be run ({_reason(error)}); export it again.") from error
        return dict(zip(self.output_names, values, strict=True))

    def __call__(self, images: Tensor) -> BackendOutput:
        """Predict RGB crops in [0, 1], float32, (B, 3, S, S); they are rounded to 8 bits, as images have them.

        Raises:
            ConfigError: If the outputs are no predictions.
        """
        pixels = (images.detach().cpu().float() * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        n = len(pixels)
        if self.providers[0] == PROVIDERS["cpu"]:
            n = max(1, min(n, PIXELS_AT_ONCE // self.image_size**2))
        parts = [self.run(pixels[i : i + n]) for i in range(0, len(pixels), n)]
        found = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        output = BackendOutput(
            found[self._probabilities], found.get("valence"), found.get("arousal"), found.get("landmarks")
        )
        return require_predictions(output, self.location)


@cache
def _bound_memory() -> None:
    """Let all sessions of this process have no more than `MAX_MEMORY` for what they compute on the CPU."""
    import onnxruntime as ort

    kind = (ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", *kind), ort.OrtArenaCfg({"max_mem": MAX_MEMORY}))


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _reopen(location: str, vocabulary: str | None, device: str) -> OnnxBackend:
    return OnnxBackend(location, vocabulary=vocabulary, device=device)


def _providers(device: str, available: list[str]) -> list[str]:
    """Return what runs the file, the first choice first."""
    wanted = [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    if device != "auto":
        kind = device.split(":")[0]
        if PROVIDERS.get(kind) not in available:
            raise ConfigError(
                f"device={device} is not to be had with this onnxruntime (it has {', '.join(available)}); use "
                "device=cpu or, for a GPU, install onnxruntime-gpu."
            )
        wanted = wanted if kind == "cuda" else [PROVIDERS["cpu"]]
    return [provider for provider in wanted if provider in available]
