"""From an uploaded file to what the demo shows of it."""

from __future__ import annotations

import logging
import mimetypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from src.data.readers.images import UnreadableImage, decode_image
from src.inference import EmotionPredictor
from src.inference.annotation import Annotator
from src.inference.results import Frame, Image
from src.inference.video import UnreadableVideo, read_video
from src.inference.video_writer import VideoWriter
from src.utils.errors import ConfigError
from src.web.cards import faces_html, notice
from src.web.models import ModelShelf

log = logging.getLogger(__name__)

# What Pillow, but not a video's decoder, has to say about a file that is no image.
NO_IMAGE = "not an image"
# A video may take as many times `max_seconds`: one of many or huge frames a second would keep others waiting for hours.
MAX_SLOWNESS = 20
NO_HEAT = "Grad-CAM needs a PyTorch model: ONNX files hold no gradients."


@dataclass(frozen=True)
class View:
    """What the demo shows.

    Attributes:
        notice: Line above the result, HTML.
        image: Annotated image, RGB (H, W, 3), or None.
        video: Annotated video, or None.
        faces: Cards of the faces of an image, HTML.
    """

    notice: str
    image: Image | None = None
    video: str | None = None
    faces: str = ""


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

    def file(self, path: str, model: str, heat: bool, progress: Callable[[float, str], object]) -> View:
        """Predict an image or a video; whatever is wrong with it becomes a notice.

        Args:
            path: The file.
            model: Name of the model.
            heat: Whether to show where the model sees the attribution.
            progress: Called with a fraction in [0, 1] and a text.
        """
        return _guarded(Path(path).name, lambda: self._file(path, model, heat, progress))

    def frame(self, image: Image, model: str, heat: bool) -> View:
        """Predict what a camera sees, RGB (H, W, 3)."""
        return _guarded("The camera", lambda: self._image(image, model, heat))

    def _file(self, path: str, model: str, heat: bool, progress: Callable[[float, str], object]) -> View:
        try:
            image = decode_image(Path(path))
        except UnreadableImage as error:
            if NO_IMAGE not in str(error):
                raise
            return self._video(path, model, heat, progress)
        return self._image(image, model, heat)

    def _image(self, image: Image, model: str, heat: bool) -> View:
        predictor, remark = self._predictor(model, heat)
        prediction = predictor.predict(image)
        n = len(prediction.faces)
        text = "No face found. Faces must be 24 pixels wide or more."
        if n:
            text = f"{n} face{'s' if n > 1 else ''}. {remark}".strip()
        return View(notice(text), Annotator(cards=False).draw(prediction), faces=faces_html(prediction))

    def _predictor(self, model: str, heat: bool) -> tuple[EmotionPredictor, str]:
        """Return the model, with heat maps if asked for and possible, and a remark on them."""
        predictor = self.shelf.predictor(model, gradcam=heat)
        if not heat:
            return predictor, ""
        return predictor, "Warm colors: what speaks most for the class of the face." if predictor.gradcam else NO_HEAT

    def _video(self, path: str, model: str, heat: bool, progress: Callable[[float, str], object]) -> View:
        """Predict the first seconds of a video."""
        predictor, remark = self._predictor(model, heat)
        writer = VideoWriter(Path(mkdtemp(dir=self._folder)) / f"{Path(path).stem[:40]}_annotated")
        annotator, frames = Annotator(), _FirstFrames(path, self.max_seconds)
        count, seconds, broken = 0, 0.0, ""
        with writer:
            try:
                for prediction in predictor.track(frames):
                    seconds = prediction.frame.time or 0.0
                    writer.write(annotator.draw(prediction), seconds)
                    count += 1
                    progress(min(1.0, seconds / self.max_seconds), f"{count} frames, {seconds:.1f} s")
            except UnreadableVideo as error:
                if not count:
                    raise
                broken = f"The file is broken: {error}."
        length = frames.cut or f"{count} frames, {seconds:.1f} s."
        text = " ".join(f"{length} {broken} {remark}".split())
        return View(notice(text, "alert" if broken else "status"), video=str(writer.path))


class _FirstFrames:
    """The frames of the first seconds of a video.

    Attributes:
        cut: Which part of it they are, as a sentence; empty if it is the whole.
    """

    def __init__(self, path: str, max_seconds: float) -> None:
        self.path, self.max_seconds, self.cut = Path(path), max_seconds, ""

    def __iter__(self) -> Iterator[Frame]:
        end = time.monotonic() + MAX_SLOWNESS * self.max_seconds
        for frame in read_video(self.path):
            seconds = frame.time or 0.0
            if seconds > self.max_seconds:
                self.cut = f"The first {self.max_seconds:g} seconds."
                return
            if frame.index and time.monotonic() > end:
                self.cut = f"The first {seconds:.1f} seconds: the rest would take too long."
                return
            yield frame


def _guarded(name: str, work: Callable[[], View]) -> View:
    """Return what work gives; if it fails, say why."""
    try:
        return work()
    except UnreadableImage as error:
        return View(notice(f"{name} cannot be shown: {error}.", "alert"))
    except UnreadableVideo as error:
        # Of what is no video at all, its decoder says odd things.
        is_video = (mimetypes.guess_type(name)[0] or "").startswith("video")
        reason = f" ({error})" if is_video else ""
        text = f"{name} is neither an image nor a video that can be read{reason}. Choose another file."
        return View(notice(text, "alert"))
    except ConfigError as error:
        return View(notice(str(error), "alert"))
    except Exception:  # whatever a stranger's file brings about, the demo goes on
        log.exception("Error: %s could not be analyzed", name)
        return View(notice(f"{name} could not be analyzed; the terminal says why.", "alert"))
