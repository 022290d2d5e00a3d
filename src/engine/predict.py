"""One prediction job, from `input=` to tables, annotated images and videos."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

import cv2
from omegaconf import DictConfig, OmegaConf

from src.data.readers.file_tree import printable
from src.data.readers.frames import Frame
from src.data.readers.images import UnreadableImage
from src.data.readers.video import Part, UnreadableVideo, read_video, video_seconds
from src.inference.annotation import Annotator
from src.inference.camera import read_camera
from src.inference.detection import build_detector
from src.inference.network import fetch_image, is_address, read_stream
from src.inference.people import PERSON, People
from src.inference.pictures import as_frame
from src.inference.predictor import DEFAULT_WEIGHTS, EmotionPredictor
from src.inference.progress import Progress
from src.inference.quality import QualityLimits
from src.inference.region import within
from src.inference.results import AFFECT, Prediction
from src.inference.sound import add_sound
from src.inference.sources import Source, find_sources
from src.inference.tables import PredictionTable
from src.inference.video_writer import VideoWriter, choose_encoder
from src.runs import layout
from src.utils.atomic_files import atomic_write
from src.utils.errors import ConfigError
from src.utils.image_files import write_image
from src.utils.paths import plain_name
from src.utils.signals import stop_requests

log = logging.getLogger(__name__)

JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
# A line of an image names no more faces than these.
NAMED_FACES = 4


@dataclass
class Item:
    """A row of `items.csv`: what became of one image, video or camera.

    Attributes:
        source: Its name.
        kind: `picture`, `video` or `camera`.
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
    """Predicts all sources and writes what comes of it."""

    def __init__(
        self,
        cfg: DictConfig,
        sources: Sequence[Source],
        predictor: EmotionPredictor,
        table: PredictionTable,
        items: TextIO,
        people: TextIO | None,
    ) -> None:
        """Start `items.csv` and `people.csv`.

        Args:
            cfg: Configuration of `conf/predict.yaml`.
            sources: What to predict.
            predictor: The model.
            table: Where its predictions go.
            items: The open `items.csv`.
            people: The open `people.csv`, if there are videos or cameras.
        """
        self.cfg, self.folder, self.sources = cfg, Path(cfg.run_dir), sources
        self.predictor, self._table = predictor, table
        self.part = Part(cfg.start, cfg.end, cfg.every_n)
        self.items: list[Item] = []
        self._items = csv.DictWriter(items, list(Item.__dataclass_fields__))
        self._items.writeheader()
        backend = predictor.backend
        affect = AFFECT if "valence_arousal" in backend.outputs else ()
        columns = (*PERSON, *backend.class_names, *affect)
        self._people = None if people is None else csv.DictWriter(people, columns, extrasaction="ignore")
        if self._people is not None:
            self._people.writeheader()

    def run(self) -> list[Item]:
        """Predict everything.

        Returns:
            What became of each source.
        """
        if self.cfg.annotate:
            (self.folder / layout.ANNOTATED).mkdir(exist_ok=True)
        for kind, group in groupby(self.sources, key=lambda source: source.kind):
            if kind == "picture":
                self._predict_images(list(group))
            else:
                for source in group:
                    self._predict_video(source)
        return self.items

    def _predict_images(self, sources: list[Source]) -> None:
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

    def _images(self, sources: list[Source]) -> Iterator[Frame]:
        """Yield the images that can be read, and report the others."""
        for source in sources:
            try:
                yield fetch_image(source.name) if is_address(source.name) else as_frame(source.name)
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
        if self._people is not None:
            self._people.writerows(people.rows(source.name))
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
        place = f"[{len(self.items)}/{len(self.sources)}] {printable(item.source)}"
        if item.status in ("failed", "incomplete"):
            log.error("%s: %s: %s%s", place, item.status, item.reason, f" ({summary})" if item.frames else "")
        elif item.status == "no face":
            log.warning("%s: no face found", place)
        else:
            log.info("%s: %s", place, summary)

    def _free_name(self, source: str, suffix: str, folder: str = layout.ANNOTATED) -> Path:
        """Return a file for a source that needs no quotes and is not there yet."""
        stem = plain_name(Path(source).stem) or "image"
        names = [stem, *(f"{stem}_{i}" for i in range(2, len(self.sources) + 2))]
        paths = (self.folder / folder / f"{name}{suffix}" for name in names)
        return next(path for path in paths if not path.exists())


def predict(cfg: DictConfig) -> None:
    """Predict `input=`, and write tables and annotated images and videos into the run directory.

    Args:
        cfg: Configuration of `conf/predict.yaml`.

    Raises:
        ConfigError: If nothing can be predicted, or some of the input could not.
    """
    if cfg.input is None:
        raise ConfigError("input=null; give an image, a folder, a glob, a video or the number of a camera.")
    given = OmegaConf.to_container(cfg.input) if OmegaConf.is_config(cfg.input) else cfg.input
    sources = find_sources(given, cfg.network)  # type: ignore[arg-type]  # validated
    if cfg.end is not None and cfg.end <= cfg.start:
        raise ConfigError(f"end={cfg.end:g} is not after start={cfg.start:g}; set end to a later second, or to null.")
    if cfg.annotate and any(source.kind != "picture" for source in sources):
        choose_encoder()  # refuses before the model is loaded
    predictor = EmotionPredictor(
        cfg.ckpt_path or DEFAULT_WEIGHTS,
        detector=within(build_detector(cfg.detector, cfg.detector_path), cfg.region),
        quality=QualityLimits(**cfg.quality),
        backend=cfg.backend,
        vocabulary=cfg.head.vocabulary,
        batch_size=cfg.batch_size,
        device=cfg.device,
        precision=cfg.precision,
        gradcam=cfg.gradcam,
        plugins=cfg.plugins,
    )
    folder, backend = Path(cfg.run_dir), predictor.backend
    has_videos = any(source.kind != "picture" for source in sources)
    with (
        PredictionTable(folder, cfg.table, backend.class_names, backend.outputs) as table,
        _written(folder / layout.ITEMS) as file,
        _written(folder / layout.PEOPLE) if has_videos else nullcontext() as people,
    ):
        items = PredictionJob(cfg, sources, predictor, table, file, people).run()
    faces = sum(item.faces for item in items)
    log.info("%d of %d items have faces, %d faces in all", sum(item.faces > 0 for item in items), len(items), faces)
    log.info("Run directory: %s", cfg.run_dir)
    bad = [item for item in items if item.status in ("failed", "incomplete")]
    if bad:
        raise ConfigError(
            f"{len(bad)} of {len(items)} items of input={cfg.input} could not be read, or not to their end, such as "
            f"{printable(bad[0].source)} ({bad[0].reason}); see items.csv. What could be read is in {cfg.run_dir}."
        )


def _written(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")


def _summary(prediction: Prediction) -> str:
    """Return the faces of an image in words."""
    faces = prediction.faces
    named = ", ".join(f"{face.expression} ({face.probability:.2f})" for face in faces[:NAMED_FACES])
    return f"{len(faces)} face{'s' if len(faces) > 1 else ''}: {named}{', ...' if len(faces) > NAMED_FACES else ''}"
