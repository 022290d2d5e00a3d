"""Faces, classes, valence and arousal of images and videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast, overload

import numpy as np

from src.data.readers.frames import Frame
from src.inference.backend import Backend, BackendOutput, TorchBackend
from src.inference.choice import load_backend
from src.inference.crop import crop_box, crop_rule, crop_to_image, cut, roll_of, to_tensor
from src.inference.detection import Detection, Detector, build_detector
from src.inference.image_input import ImageInput, as_frame, is_image
from src.inference.quality import QualityLimits
from src.inference.results import Box, FacePrediction, Image, Prediction, Predictions
from src.inference.tracking import Tracker
from src.models.registry import Plugins, load_plugins
from src.runs import hub
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from src.utils.validation import Positive, check_value

DEFAULT_WEIGHTS = str(ROOT / "pretrained" / "emonet_fer.safetensors")
# Frames wait until their faces fill a batch, but not more of them than this, or than one a face.
MAX_WAITING_FRAMES = 32
MAX_WAITING_PIXELS = 2**25


class _Face(NamedTuple):
    """A face that was found, and what the model is to see of it; see `FacePrediction`."""

    detection: Detection
    crop: Box
    roll: float
    pixels: Image
    reasons: tuple[str, ...]


class EmotionPredictor:
    """Finds the faces of images and predicts them, in batches across faces and images.

    Several threads may use one, each with images or a video of its own; detectors and backends of your own must then
    allow it.

    Attributes:
        backend: What runs the model.
        detector: What finds the faces.
        quality: What a face must have to be predicted with confidence.
        batch_size: Largest number of faces that the model sees at once.
        gradcam: Whether faces get their `heat`.

    Example:
        >>> predictor = EmotionPredictor()
        >>> for face in predictor.predict("group.jpg").faces:
        ...     print(face.box, face.expression, face.probability, face.valence)
    """

    def __init__(
        self,
        weights: str | Path = DEFAULT_WEIGHTS,
        *,
        detector: str | Detector = "retinaface",
        detector_path: str | None = None,
        quality: QualityLimits | None = None,
        backend: str | Backend = "auto",
        vocabulary: str | None = None,
        batch_size: int = 32,
        device: str = "auto",
        precision: str = "auto",
        gradcam: bool = False,
        plugins: Plugins = (),
    ) -> None:
        """Load a model and a detector.

        Args:
            weights: A run directory, a `.ckpt`, a `.safetensors`, an `.onnx` or `hf://owner/name`.
            detector: `retinaface`, `haar`, `yunet`, `none` (images are crops of faces already), or one of your own.
            detector_path: The ONNX file of `yunet`.
            quality: What a face must have to be predicted with confidence; None for the default.
            backend: `auto` (the fastest here), `torch`, `onnx`, or one of your own, which then has the weights.
            vocabulary: Which classification of weights that have several; None takes `ferplus` if there is one.
            batch_size: Largest number of faces that the model sees at once.
            device: `auto`, `cpu` or `cuda`.
            precision: `auto` (what the machine does fastest), `32-true`, `bf16-mixed` or `16-mixed`.
            gradcam: Whether faces get their `heat`, where the attribution for the predicted class is; `torch` only.
            plugins: Python modules that register heads and backbones of your own, which the weights name.

        Raises:
            ConfigError: If the weights or the detector cannot be had.
        """
        check_value("batch_size", batch_size, "a whole number of 1 or more", Positive)
        load_plugins(plugins)
        if isinstance(backend, str):
            options = {"vocabulary": vocabulary, "device": device, "precision": precision}
            backend = load_backend(backend, str(weights), gradients=gradcam, **options)  # type: ignore[arg-type]
        self.backend = backend
        if gradcam and not isinstance(backend, TorchBackend):
            raise ConfigError("gradcam=true needs gradients, which only backend=torch has; leave one of them out.")
        self.gradcam = gradcam
        self.detector = build_detector(detector, detector_path) if isinstance(detector, str) else detector
        self.quality = quality or QualityLimits()
        self.batch_size = batch_size
        self._rule = crop_rule(self.detector, self.backend.crop)

    @classmethod
    def from_pretrained(
        cls, repo: str, *, revision: str | None = None, filename: str | None = None, **options: Any
    ) -> Self:
        """Load a model of the Hugging Face Hub, as it is there now; without a network, as it was fetched last.

        Args:
            repo: Repository, `owner/name`.
            revision: Branch, tag or commit; None for the latest.
            filename: Its `.safetensors`; None for the only one.
            **options: Further arguments of the constructor.

        Raises:
            ConfigError: If the weights or the detector cannot be had.
        """
        return cls(hub.download(repo, revision=revision, name=filename).path, **options)

    @overload
    def predict(self, images: ImageInput, *, bgr: bool = False) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[ImageInput], *, bgr: bool = False) -> Predictions: ...

    def predict(self, images: ImageInput | Iterable[ImageInput], *, bgr: bool = False) -> Prediction | Predictions:
        """Predict an image, or several at once.

        Args:
            images: An image, see `src.inference.image_input.as_frame`, or a list or generator of them.
            bgr: Whether the channels of arrays and tensors are OpenCV's, blue, green and red, not RGB.

        Raises:
            UnreadableImage: If a file is no image, or broken; the message is the reason.
            ConfigError: If something is no image.
        """
        if not is_image(images) and isinstance(images, Iterable):
            return Predictions(self.predict_many(cast(Iterable[ImageInput], images), bgr=bgr))
        return next(self.predict_many([cast(ImageInput, images)], bgr=bgr))

    def predict_many(self, images: Iterable[ImageInput], *, bgr: bool = False) -> Iterator[Prediction]:
        """Predict images one after the other, in batches across them, at constant memory; see `predict`."""
        return self._predict(as_frame(image, bgr=bgr) for image in images)

    def track(self, frames: Iterable[Frame], *, smooth: bool = True, every_n: int = 1) -> Iterator[Prediction]:
        """Predict the frames of one video in their order, such as those of `src.data.readers.video.read_video`.

        Args:
            frames: Frames with numbers and times. If reading them fails, the frames before are still predicted.
            smooth: Whether predictions are weighted means over the last five frames of the person's track.
            every_n: How far the numbers of two frames are apart.

        Returns:
            The frames, their faces with tracks; at constant memory, whatever the video's length.
        """
        return Tracker(smooth=smooth, every_n=every_n).follow(self._predict(frames))

    def _predict(self, frames: Iterable[Frame]) -> Iterator[Prediction]:
        waiting: list[tuple[Frame, list[Detection]]] = []
        failure: Exception | None = None
        try:
            for frame in frames:
                waiting.append((frame, self.detector(frame.image)))
                if self._is_full(waiting):
                    yield from self._run(waiting)
                    waiting = []
        except Exception as error:  # whatever it is, what came before it counts
            failure = error
        yield from self._run(waiting)
        if failure is not None:
            raise failure

    def _is_full(self, waiting: list[tuple[Frame, list[Detection]]]) -> bool:
        faces = sum(len(found) for _, found in waiting)
        pixels = sum(frame.image.shape[0] * frame.image.shape[1] for frame, _ in waiting)
        frames = len(waiting) >= max(self.batch_size, MAX_WAITING_FRAMES)
        return faces >= self.batch_size or frames or pixels >= MAX_WAITING_PIXELS

    def _run(self, waiting: list[tuple[Frame, list[Detection]]]) -> Iterator[Prediction]:
        """Predict the faces of all waiting frames, `batch_size` at a time."""
        faces = [self._cut(frame.image, detection) for frame, found in waiting for detection in found]
        parts = (faces[i : i + self.batch_size] for i in range(0, len(faces), self.batch_size))
        predicted = [face for part in parts for face in self._faces(part)]
        start = 0
        for frame, found in waiting:
            end = start + len(found)
            yield Prediction(frame, tuple(predicted[start:end]))
            start = end

    def _cut(self, image: Image, detection: Detection) -> _Face:
        """Cut a face out of its image, and judge how well it can be seen."""
        roll = roll_of(detection.points)
        crop = crop_box(detection.box, self._rule, roll)
        pixels = cut(image, crop, self.backend.image_size, self.backend.grayscale, roll)
        return _Face(detection, crop, roll, pixels, self.quality.reasons(image, detection, crop, pixels))

    def _faces(self, found: list[_Face]) -> list[FacePrediction]:
        """Predict a batch."""
        images = to_tensor([face.pixels for face in found])
        faces = [self._face(face, row) for face, row in zip(found, _rows(self.backend(images)), strict=True)]
        if self.gradcam and isinstance(self.backend, TorchBackend):
            heat = self.backend.explain(images, [face.expression for face in faces]).numpy()
            faces = [replace(face, heat=one) for face, one in zip(faces, heat, strict=True)]
        return faces

    def _face(self, face: _Face, output: BackendOutput) -> FacePrediction:
        """Name the outputs of one face, and put its landmarks into the image."""
        landmarks = None
        if output.landmarks is not None:
            place = crop_to_image(face.crop, face.roll, self.backend.image_size)
            landmarks = (output.landmarks.numpy() @ place[:, :2].T + place[:, 2]).astype(np.float32)
        return FacePrediction(
            box=face.detection.box,
            crop=face.crop,
            roll=face.roll,
            probabilities=dict(zip(self.backend.class_names, output.probabilities.tolist(), strict=True)),
            valence=None if output.valence is None else float(output.valence),
            arousal=None if output.arousal is None else float(output.arousal),
            landmarks=landmarks,
            score=face.detection.score,
            points=face.detection.points,
            reasons=face.reasons,
        )


def _rows(output: BackendOutput) -> Iterator[BackendOutput]:
    """Yield the outputs of each crop of a batch."""
    for i in range(len(output.probabilities)):
        rest = (None if part is None else part[i] for part in output[1:])
        yield BackendOutput(output.probabilities[i], *rest)
