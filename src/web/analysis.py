"""From an uploaded file to what the demo shows of it."""

from __future__ import annotations

import logging
import mimetypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from src.data.readers.frames import Frame
from src.data.readers.images import UnreadableImage
from src.data.readers.video import UnreadableVideo, read_video
from src.inference import EmotionPredictor
from src.inference.annotation import Annotator
from src.inference.image_input import as_frame
from src.inference.people import People
from src.inference.results import Image
from src.inference.sound import add_sound
from src.inference.tables import PredictionTable
from src.inference.video_writer import VideoWriter
from src.runs import layout
from src.utils.errors import ConfigError
from src.web.cards import faces_html, notice, people_html
from src.web.models import ModelShelf

log = logging.getLogger(__name__)

# What Pillow, but not a video's decoder, has to say about a file that is no image.
NO_IMAGE = "not an image"
# A video may take as many times `max_seconds`: one of many or huge frames a second would keep others waiting for hours.
MAX_SLOWNESS = 20
HEAT = "Warm colors: what speaks most for the class of the face."
NO_LANDMARKS = "This model has no landmarks."
NO_HEAT = "Grad-CAM needs a PyTorch model: ONNX files hold no gradients."


@dataclass(frozen=True)
class View:
    """What the demo shows.

    Attributes:
        notice: Line above the result, HTML.
        image: Annotated image, RGB (H, W, 3), or None.
        alt: What it shows, in words.
        video: Annotated video, or None.
        faces: Cards of the faces of an image, or of the people of a video, HTML.
        table: File with a row for each face of each frame, or None.
    """

    notice: str
    image: Image | None = None
    alt: str = ""
    video: str | None = None
    faces: str = ""
    table: str | None = None


class Overlay(NamedTuple):
    """What is laid over faces.

    Attributes:
        heat: Whether to show where the model sees the attribution.
        landmarks: Whether to draw the landmarks, if the model has them.
    """

    heat: bool = False
    landmarks: bool = False


class Analyst:
    """Predicts what is uploaded.

    Attributes:
        shelf: The models.
        max_seconds: Seconds of a video that are looked at.
    """

    def __init__(self, shelf: ModelShelf, folder: Path, max_seconds: float) -> None:
        """Start.

        Args:
            shelf: The models.
            folder: Where annotated videos are written.
            max_seconds: Seconds of a video that are looked at.
        """
        self.shelf, self.max_seconds, self._folder = shelf, max_seconds, folder

    def file(self, path: str, model: str, overlay: Overlay, progress: Callable[[float, str], object]) -> View:
        """Predict an image or a video; whatever is wrong with it becomes a notice.

        Args:
            path: The file.
            model: Name of the model.
            overlay: What is laid over faces.
            progress: Called with a fraction in [0, 1] and a text.
        """
        return _guarded(Path(path).name, lambda: self._file(path, model, overlay, progress))

    def frame(self, image: Image, model: str, overlay: Overlay) -> View:
        """Predict what a camera sees, RGB (H, W, 3)."""
        return _guarded("The camera", lambda: self._image(Frame("camera", image), model, overlay))

    def _file(self, path: str, model: str, overlay: Overlay, progress: Callable[[float, str], object]) -> View:
        try:
            frame = replace(as_frame(path), source=Path(path).name)
        except UnreadableImage as error:
            if NO_IMAGE not in str(error):
                raise
            return self._video(path, model, overlay, progress)
        return self._image(frame, model, overlay, keep=True)

    def _image(self, frame: Frame, model: str, overlay: Overlay, keep: bool = False) -> View:
        """Predict an image; its largest face comes first."""
        predictor, remark = self._predictor(model, overlay)
        prediction = predictor.predict(frame)
        faces = sorted(prediction.faces, key=lambda face: -face.box.width * face.box.height)
        prediction = prediction.with_faces(faces)
        text = "No face found. Faces must be 24 pixels wide or more."
        if faces:
            cold = [str(i) for i, face in enumerate(faces, start=1) if face.heat is not None and not face.heat.any()]
            nothing = f"Of face {', '.join(cold)}, no part speaks more for its class than others." if cold else ""
            text = " ".join(f"{len(faces)} face{'s' if len(faces) > 1 else ''}. {remark} {nothing}".split())
        drawn = Annotator(landmarks=overlay.landmarks, cards=False).draw(prediction)
        seen = ", ".join(face.remark or f"{face.expression} {face.probability:.0%}" for face in faces)
        view = View(notice(text), drawn, f"Faces, the largest first: {seen or 'none'}", faces=faces_html(prediction))
        if not keep:
            return view
        with self._table(predictor) as table:
            table.write(prediction)
        return replace(view, table=str(table.path))

    def _table(self, predictor: EmotionPredictor) -> PredictionTable:
        """Open a table in a folder of its own."""
        backend = predictor.backend
        path = Path(mkdtemp(dir=self._folder)) / layout.PREDICTIONS
        return PredictionTable(path, "csv", backend.class_names, backend.outputs)

    def _predictor(self, model: str, overlay: Overlay) -> tuple[EmotionPredictor, str]:
        """Return the model, with heat maps if asked for and possible, and remarks on what is laid over faces."""
        predictor = self.shelf.predictor(model, gradcam=overlay.heat)
        remarks = []
        if overlay.heat:
            remarks.append(HEAT if predictor.gradcam else NO_HEAT)
        if overlay.landmarks and "landmarks" not in predictor.backend.outputs:
            remarks.append(NO_LANDMARKS)
        return predictor, " ".join(remarks)

    def _video(self, path: str, model: str, overlay: Overlay, progress: Callable[[float, str], object]) -> View:
        """Predict the first seconds of a video."""
        predictor, remark = self._predictor(model, overlay)
        writer = VideoWriter(Path(mkdtemp(dir=self._folder)) / f"{Path(path).stem[:40]}_annotated")
        annotator, frames = Annotator(landmarks=overlay.landmarks), FirstFrames(path, self.max_seconds)
        people = People(predictor.backend.class_names)
        count, seconds, broken = 0, 0.0, ""
        with writer, self._table(predictor) as table:
            try:
                for prediction in predictor.track(frames):
                    seconds = prediction.frame.time or 0.0
                    writer.write(annotator.draw(prediction), seconds)
                    people.add(prediction)
                    table.write(prediction)
                    count += 1
                    progress(min(1.0, seconds / self.max_seconds), f"{count} frames, {seconds:.1f} s")
            except UnreadableVideo as error:
                if not count:
                    raise
                broken = f"The file is broken: {error}."
        add_sound(writer.path, Path(path), 0.0, seconds)
        length = frames.cut or f"{count} frames, {seconds:.1f} s."
        text = " ".join(f"{length} {broken} {remark}".split())
        return View(
            notice(text, "alert" if broken else "status"),
            video=str(writer.path),
            faces=people_html(people),
            table=str(table.path),
        )


class FirstFrames:
    """The frames of the first seconds of a video.

    Attributes:
        cut: Which part of it they are, as a sentence; empty if it is the whole.
    """

    def __init__(self, path: str, max_seconds: float) -> None:
        """Start.

        Args:
            path: The video.
            max_seconds: Seconds of it that are looked at.
        """
        self.path, self.max_seconds, self.cut = Path(path), max_seconds, ""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        end = time.monotonic() + MAX_SLOWNESS * self.max_seconds
        for frame in read_video(self.path):
            seconds = frame.time or 0.0
            if seconds > self.max_seconds:
                self.cut = f"The first {self.max_seconds:g} seconds."
                return
            if frame.index and time.monotonic() > end:
                self.cut = f"The first {seconds:.1f} seconds: the rest would take too long."
                return
            yield replace(frame, source=self.path.name)


def _guarded(name: str, work: Callable[[], View]) -> View:
    """Return what work gives; if it fails, say why."""
    try:
        return work()
    except Exception as error:  # whatever a stranger's file brings about, the demo goes on
        return View(notice(reason(name, error), "alert"))


def reason(name: str, error: Exception) -> str:
    """Return why a file could not be analyzed, as a sentence; what was not expected goes into the log.

    Args:
        name: The file's name.
        error: What was raised.
    """
    if isinstance(error, UnreadableImage):
        return f"{name} cannot be shown: {error}."
    if isinstance(error, UnreadableVideo):
        # Of what is no video at all, its decoder says odd things.
        is_video = (mimetypes.guess_type(name)[0] or "").startswith("video")
        because = f" ({error})" if is_video else ""
        return f"{name} is neither an image nor a video that can be read{because}. Choose another file."
    if isinstance(error, ConfigError):
        return str(error)
    log.error("Error: %s could not be analyzed", name, exc_info=error)
    return f"{name} could not be analyzed; the terminal says why."
