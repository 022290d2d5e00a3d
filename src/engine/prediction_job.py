"""One prediction job: sources, as they come, to tables, annotated images and videos."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, count, groupby
from pathlib import Path
from typing import IO, Any

import cv2
from omegaconf import DictConfig

from src.data.readers.containers import VIDEO_SUFFIXES
from src.data.readers.file_tree import printable
from src.data.readers.frames import Frame
from src.data.readers.images import UnreadableImage
from src.data.readers.video import Part, UnreadableVideo, read_video, video_seconds
from src.inference.annotation import Annotator
from src.inference.camera import read_camera
from src.inference.image_input import as_frame
from src.inference.network import fetch_image, is_address, read_stream
from src.inference.people import PERSON, People
from src.inference.predictor import EmotionPredictor
from src.inference.progress import Progress
from src.inference.results import AFFECT, Prediction
from src.inference.sound import add_sound
from src.inference.sources import Source
from src.inference.tables import PredictionTable
from src.inference.video_writer import VideoWriter, choose_encoder
from src.runs import layout
from src.utils.atomic_files import atomic_write
from src.utils.image_files import write_image
from src.utils.paths import plain_name
from src.utils.signals import stop_requests

log = logging.getLogger(__name__)

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
# What becomes of an item that could not be read, or not to its end.
UNREAD = ("failed", "incomplete")
# A line of an image names no more faces than these.
NAMED_FACES = 4


@dataclass
class Item:
    """A row of `items.csv`: what became of one image, video or camera.

    Attributes:
        source: Its name.
        kind: `picture` for an image, `video` or `camera`.
        status: `ok`, `no face`, `incomplete` (what could be read of a video was used) or `failed`.
        frames: Images that were read of it.
        faces: Faces that were found, in all frames.
        people: Tracks of a video.
        annotated: The annotated file, relative to the run directory.
        reason: Why it failed, or is incomplete.
    """

    source: str
    kind: str
    status: str = "ok"
    frames: int = 0
    faces: int = 0
    people: int = 0
    annotated: str = ""
    reason: str = ""


class PredictionJob:
    """Predicts sources and writes what comes of it."""

    def __init__(
        self,
        cfg: DictConfig,
        predictor: EmotionPredictor,
        table: PredictionTable,
        items: IO[str],
        write_people: Callable[[list[dict[str, Any]]], object],
        total: int | None = None,
    ) -> None:
        """Start `items.csv`.

        Args:
            cfg: Configuration of `conf/predict.yaml`.
            predictor: The model.
            table: Where its predictions go.
            items: The open `items.csv`.
            write_people: Takes the rows of the people of a video or camera.
            total: How many sources there are, for the log; None if that is not known, which then has no line of those
                that are well.
        """
        self.cfg, self.folder, self._total = cfg, Path(cfg.run_dir), total
        self.predictor, self._table, self._write_rows = predictor, table, write_people
        self.part = Part(cfg.start, cfg.end, cfg.every_n)
        self.items: list[Item] = []
        self._items = csv.DictWriter(items, list(Item.__dataclass_fields__))
        self._items.writeheader()

    def run(self, sources: Iterable[Source]) -> list[Item]:
        """Predict sources, which are taken one by one.

        Returns:
            What became of each, in about their order: what cannot be read is told at once, and images wait for others.
        """
        if self.cfg.annotate:
            (self.folder / layout.ANNOTATED).mkdir(exist_ok=True)
        for kind, group in groupby(sources, key=lambda source: source.kind):
            if kind == "picture":
                self._predict_images(group)
            else:
                for source in group:
                    self._predict_video(source)
        return self.items

    def _predict_images(self, sources: Iterable[Source]) -> None:
        """Predict images, in batches across them."""
        for prediction in self.predictor.predict_many(self._images(sources)):
            item = Item(prediction.frame.source, "picture", frames=1, faces=len(prediction.faces))
            self._table.write(prediction)
            if self.cfg.annotate:
                path = self._free_name(item.source, ".jpg")
                image = Annotator(landmarks=self.cfg.landmarks).draw(prediction)
                write_image(path, image, JPEG)
                item.annotated = str(path.relative_to(self.folder))
            self._finish(item, _summary(prediction))

    def _images(self, sources: Iterable[Source]) -> Iterator[Frame]:
        """Yield the images that can be read, and report the others."""
        for source in sources:
            try:
                yield _read_image(source)
            except UnreadableImage as error:
                self._finish(Item(source.name, "picture", "failed", reason=str(error)))

    def _predict_video(self, source: Source) -> None:
        """Predict a video or what a camera sees, frame by frame."""
        every_n = self.part.every_n if source.kind == "video" else 1
        item, people = Item(source.name, source.kind), People(self.predictor.backend.class_names)
        progress: Progress | None = None
        now = 0.0
        with ExitStack() as stack:
            if source.kind == "video":
                frames = read_video(Path(source.name), self.part)
            else:
                stack.enter_context(stop_requests.deferred())
                log.info("%s: recording; stop with Ctrl-C", source.name)
                frames = self._recorded(source)
            writer = None
            if self.cfg.annotate:
                writer = stack.enter_context(VideoWriter(self._free_name(source.name, choose_encoder()[1])))
            annotator = Annotator(landmarks=self.cfg.landmarks)
            try:
                for prediction in self.predictor.track(frames, smooth=self.cfg.smooth, every_n=every_n):
                    now = prediction.frame.time or 0.0
                    progress = progress or Progress(now, self._end(source))
                    self._table.write(prediction)
                    if writer is not None:
                        writer.write(annotator.draw(prediction), now - progress.first)
                        item.annotated = str(writer.path.relative_to(self.folder))
                    item.frames += 1
                    item.faces += len(prediction.faces)
                    people.add(prediction)
                    if progress.is_due():
                        log.info("%s: %d frames so far, %s", printable(item.source), item.frames, progress.news(now))
            except UnreadableVideo as error:
                item.status, item.reason = "incomplete" if item.frames else "failed", str(error)
        if writer is not None and progress is not None and source.kind == "video":
            add_sound(writer.path, Path(source.name), progress.first, now)
        item.people = len(people.known)
        self._write_people(people, source)
        n_people = "1 person" if item.people == 1 else f"{item.people} people"
        self._finish(item, f"{item.frames} frames, {item.faces} faces of {n_people}")

    def _recorded(self, source: Source) -> Iterator[Frame]:
        """Return what a camera, here or at an address, sees."""
        if source.kind == "camera":
            return read_camera(source.number, self.cfg.max_seconds)
        return read_stream(source.name, self.cfg.max_seconds)

    def _end(self, source: Source) -> float:
        """Return when what is looked at of a video or camera ends, in seconds; infinite if that is not known."""
        if source.kind != "video":
            return self.cfg.max_seconds or math.inf
        return min(video_seconds(Path(source.name)) or math.inf, self.part.end or math.inf)

    def _write_people(self, people: People, source: Source) -> None:
        """Write the summary of a video's people, and their figure."""
        self._write_rows(people.rows(source.name))
        figure = people.draw() if self.cfg.annotate else None
        if figure is not None:
            (self.folder / layout.TIMELINES).mkdir(exist_ok=True)
            with atomic_write(self._free_name(source.name, ".png", layout.TIMELINES)) as scratch:
                figure.savefig(scratch, dpi=110, format="png")

    def _finish(self, item: Item, summary: str = "") -> None:
        """Write an item's row and line."""
        if item.status == "ok" and not item.faces:
            item.status = "no face"
        self.items.append(item)
        self._items.writerow(asdict(item))
        told = self._total is not None
        place = f"[{len(self.items)}/{self._total}] " * told + printable(item.source)
        if item.status in UNREAD:
            log.error("%s: %s: %s%s", place, item.status, item.reason, f" ({summary})" if item.frames else "")
        elif item.status == "no face":
            log.log(logging.WARNING if told else logging.DEBUG, "%s: no face found", place)
        else:
            log.log(logging.INFO if told else logging.DEBUG, "%s: %s", place, summary)

    def _free_name(self, source: str, suffix: str, folder: str = layout.ANNOTATED) -> Path:
        """Return a file for a source that needs no quotes and is not there yet."""
        stem = plain_name(Path(source).stem) or "image"
        names = chain([stem], (f"{stem}_{i}" for i in count(2)))
        paths = (self.folder / folder / f"{name}{suffix}" for name in names)
        return next(path for path in paths if not path.exists())


def people_writer(file: IO[str], predictor: EmotionPredictor) -> csv.DictWriter[str]:
    """Start `people.csv`."""
    backend = predictor.backend
    affect = AFFECT if "valence_arousal" in backend.outputs else ()
    writer = csv.DictWriter(file, (*PERSON, *backend.class_names, *affect), extrasaction="ignore")
    writer.writeheader()
    return writer


def _read_image(source: Source) -> Frame:
    if source.member is None:
        return fetch_image(source.name) if is_address(source.name) else as_frame(source.name)
    if Path(source.name).suffix.lower() in VIDEO_SUFFIXES:
        raise UnreadableImage("a video in an archive; unpack it")
    return replace(as_frame(source.member.read()), source=source.name)


def _summary(prediction: Prediction) -> str:
    """Return the faces of an image in words."""
    faces = prediction.faces
    named = ", ".join(f"{face.expression} ({face.probability:.2f})" for face in faces[:NAMED_FACES])
    return f"{len(faces)} face{'s' if len(faces) > 1 else ''}: {named}{', ...' if len(faces) > NAMED_FACES else ''}"
