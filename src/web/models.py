"""The models that the demo offers."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from src.inference import EmotionPredictor
from src.inference.backend import TorchBackend
from src.inference.detection import build_detector
from src.inference.quality import QualityLimits
from src.models.registry import Plugins, load_plugins
from src.models.weights import peek_spec
from src.runs import layout
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# Models that stay in memory once they have been used.
MAX_LOADED = 3
SUFFIXES = (".ckpt", ".safetensors", ".onnx")


@dataclass(frozen=True)
class Choice:
    """A model of the list.

    Attributes:
        location: Its file: a `.ckpt`, a `.safetensors` or an `.onnx`.
        vocabulary: Which of its classifications; None for its only one.
    """

    location: str
    vocabulary: str | None = None


def find_models(locations: list[str]) -> dict[str, Choice]:
    """Return the models that locations mean, by the name that the demo shows.

    Args:
        locations: Files, run directories and globs; what a glob finds beside models is passed over.

    Raises:
        ConfigError: If a location that is no glob is no model, or there is none at all.
    """
    found: dict[str, Choice] = {}
    for location in locations:
        is_glob = any(character in location for character in "*?[")
        for path in sorted(glob(location), reverse=True) if is_glob else [location]:
            try:
                choices = _choices(path)
            except ConfigError as error:
                if not is_glob:
                    raise
                log.debug("Passed over %s: %s", path, error)
                continue
            for choice in choices:
                found[_free_name(path, choice, found)] = choice
    if not found:
        raise ConfigError(
            f"models=[{', '.join(locations)}] has no model; expected run directories, .ckpt, .safetensors or .onnx "
            "files."
        )
    return found


def _choices(location: str) -> list[Choice]:
    path = Path(location).expanduser()
    if path.is_file() and path.suffix not in SUFFIXES:
        raise ConfigError(f"models={location} is no model; expected a file of the kind {', '.join(SUFFIXES)}.")
    places = (path / layout.BEST_WEIGHTS, path / layout.BEST_CHECKPOINT) if path.is_dir() else (path,)
    files = [file for file in places if file.is_file()]
    weights = files[0] if files else layout.find_checkpoint(location, argument="models")
    spec = peek_spec(weights) if weights.suffix == ".safetensors" else None
    vocabularies = sorted(spec.vocabularies, reverse=True) if spec else []
    return [Choice(str(weights), name) for name in vocabularies] or [Choice(str(weights))]


def _free_name(location: str, choice: Choice, taken: dict[str, Choice]) -> str:
    path = Path(location).expanduser()
    name = path.name if path.is_dir() else path.stem
    name += f", {choice.vocabulary}" if choice.vocabulary else ""
    return next(free for free in (name, *(f"{name} ({i})" for i in range(2, len(taken) + 3))) if free not in taken)


class ModelShelf:
    """Loads models when they are first asked for, and keeps the latest.

    Attributes:
        choices: The models by name.
    """

    def __init__(
        self,
        locations: list[str],
        *,
        detector: str = "retinaface",
        detector_path: str | None = None,
        quality: QualityLimits | None = None,
        plugins: Plugins = (),
    ) -> None:
        """Find the models and load the first one.

        Args:
            locations: See `find_models`.
            detector: See `EmotionPredictor`.
            detector_path: See `EmotionPredictor`.
            quality: See `EmotionPredictor`.
            plugins: See `EmotionPredictor`.

        Raises:
            ConfigError: If there is no model, or the first one or the detector cannot be had.
        """
        load_plugins(plugins)
        self.choices = find_models(locations)
        self._detector, self._quality = build_detector(detector, detector_path), quality
        self._lock = threading.Lock()  # requests come in threads of their own
        self._loaded: OrderedDict[tuple[str, str], EmotionPredictor] = OrderedDict()
        self.predictor(next(iter(self.choices)))

    def predictor(self, name: str, *, gradcam: bool = False) -> EmotionPredictor:
        """Return a model.

        Args:
            name: Its name.
            gradcam: Whether faces get their `heat`, if the model is not an ONNX file, which has no gradients.

        Raises:
            ConfigError: If there is none of that name, or it cannot be loaded.
        """
        if name not in self.choices:
            raise ConfigError(f"there is no model {name!r}.")
        with self._lock:
            return self._predictor(name, gradcam)

    def _predictor(self, name: str, gradcam: bool) -> EmotionPredictor:
        choice = self.choices[name]
        backend = "torch" if gradcam and not choice.location.endswith(".onnx") else "auto"
        loaded = self._loaded.get((name, "auto"))
        if loaded is not None and isinstance(loaded.backend, TorchBackend):
            backend = "auto"  # which is PyTorch here
        key = (name, backend)
        if key not in self._loaded:
            self._loaded[key] = EmotionPredictor(
                choice.location,
                backend=backend,
                vocabulary=choice.vocabulary,
                detector=self._detector,
                quality=self._quality,
            )
        self._loaded.move_to_end(key)
        while len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        shared = self._loaded[key]
        if not (gradcam and isinstance(shared.backend, TorchBackend)):
            return shared
        # Requests that are under way go on with theirs.
        return EmotionPredictor(backend=shared.backend, detector=shared.detector, quality=self._quality, gradcam=True)
