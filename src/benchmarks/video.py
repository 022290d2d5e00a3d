"""Video suite: a video from its file to its table, stage by stage and as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from src.benchmarks.film import draw_film
from src.benchmarks.measure import Row, scratch_folder, summarize
from src.data.readers.video import read_video
from src.inference import EmotionPredictor
from src.inference.annotation import Annotator
from src.inference.results import Prediction
from src.inference.tables import PredictionTable
from src.inference.video_writer import VideoWriter
from src.runs import layout
from src.utils.paths import ROOT

SUITE = "video"
SHIPPED = ("emonet_fer", "emonet_fer_small")
N_FRAMES, WIDTH, HEIGHT = 150, 640, 480
T = TypeVar("T")


def video_suite(cfg: DictConfig) -> list[Row]:
    """Measure how long a frame of 640 x 480 pixels with one face takes, with both shipped weights.

    Args:
        cfg: Configuration of `conf/benchmark.yaml`.
    """
    with scratch_folder() as name:
        film = draw_film(Path(name) / "film", N_FRAMES, WIDTH, HEIGHT)
        return [row for weights in SHIPPED for row in _rows(weights, film, Path(name), cfg.rounds)]


def _rows(weights: str, film: Path, folder: Path, rounds: int) -> list[Row]:
    whole = EmotionPredictor(ROOT / "pretrained" / f"{weights}.safetensors")
    times: dict[str, list[float]] = {}
    faces = 0
    for number in range(rounds + 1):  # the first one warms up
        stages = _Stages()
        predictor = EmotionPredictor(backend=whole.backend, detector=stages.timed("detect", whole.detector))
        faces = _run(predictor, film, folder / f"{weights}_{number}", stages)
        sums = {"in all, without drawing": stages.sum("draw", "encode"), "in all": stages.sum()}
        for stage, seconds in {**stages.seconds, **sums}.items() if number else ():
            times.setdefault(stage, []).append(seconds / N_FRAMES)
    rows = [summarize(SUITE, f"{weights}: {stage}", seconds) for stage, seconds in times.items()]
    notes = [f"{1 / row.seconds:.0f} frames/s, {faces} faces in {N_FRAMES} frames" for row in rows[-2:]]
    return [*rows[:-2], *(replace(row, note=note) for row, note in zip(rows[-2:], notes, strict=True))]


def _run(predictor: EmotionPredictor, film: Path, folder: Path, stages: _Stages) -> int:
    """Predict, draw and write a video as `python -m src.predict` does; return the number of faces."""
    folder.mkdir()
    backend, faces = predictor.backend, 0
    annotator = Annotator()
    table = PredictionTable(folder / layout.PREDICTIONS, "csv", backend.class_names, backend.outputs)
    draw, write = stages.timed("draw", annotator.draw), stages.timed("table", table.write)
    with table, VideoWriter(folder / "drawn") as writer:
        encode = stages.timed("encode", writer.write)
        for prediction in stages.pulled("crop, predict and track", predictor.track(_decoded(film, stages))):
            write(prediction)
            encode(draw(prediction), _time(prediction))
            faces += len(prediction.faces)
    return faces


def _decoded(film: Path, stages: _Stages) -> Iterator[Any]:
    return stages.pulled("decode", read_video(film))


def _time(prediction: Prediction) -> float:
    return prediction.frame.time or 0.0


class _Stages:
    """Seconds that stages take, each without those that it waits for.

    Attributes:
        seconds: By stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0  # of stages within the present one

    def timed(self, stage: str, function: Callable[..., T]) -> Callable[..., T]:
        """Return a function that is measured."""

        def run(*arguments: Any) -> T:
            outer, self._inner = self._inner, 0.0
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                whole = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + whole - self._inner
                self._inner = outer + whole

        if hasattr(function, "crops"):
            run.crops = function.crops  # type: ignore[attr-defined]  # what a detector may have
        return run

    def pulled(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield items whose making is measured."""
        take, end = iter(items), object()
        step = self.timed(stage, lambda: next(take, end))
        while (item := step()) is not end:
            yield item  # type: ignore[misc]  # the end is no item

    def sum(self, *without: str) -> float:
        """Return the seconds of all stages but some."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage not in without)
