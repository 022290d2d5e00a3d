"""One shard of a large input, part by part: what a killed job has finished is not predicted again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from src.data.readers.file_tree import printable
from src.engine.prediction_job import UNREAD, PredictionJob, people_writer
from src.inference.onnx_backend import OnnxBackend
from src.inference.parts import OTHER_FOLDER, Parts
from src.inference.predictor import DEFAULT_WEIGHTS, EmotionPredictor
from src.inference.sources import Given, Shard, Source, find_sources
from src.inference.tables import PredictionTable, open_text
from src.runs import layout
from src.runs.layout import find_checkpoint
from src.utils.atomic_files import atomic_write
from src.utils.checksums import file_sha256
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# Options that rows depend on, beside the weights.
OPTIONS = ("n_shards", "table", "region", "detector", "detector_path", "quality", "smooth", "start", "end", "every_n")


def check_shard(cfg: DictConfig, given: Given) -> None:
    """Refuse what cannot be predicted in shards, before a model is loaded.

    Raises:
        ConfigError: If there is no such shard, nothing to predict, or images were to be drawn.
    """
    if cfg.shard >= cfg.n_shards:
        raise ConfigError(
            f"shard={cfg.shard} of n_shards={cfg.n_shards}; expected a number from 0 to {cfg.n_shards - 1}. Set "
            "n_shards to the number of all shards."
        )
    if cfg.annotate:
        raise ConfigError("annotate=true draws every image, which shards do not; add annotate=false.")
    next(find_sources(given, cfg.network, Shard(0, 1)))


def predict_shard(cfg: DictConfig, given: Given, predictor: EmotionPredictor) -> None:
    """Predict the shard of an input that `shard=` names, and write its parts into `parts_dir`.

    Args:
        cfg: Configuration of `conf/predict.yaml`.
        given: Its input.
        predictor: The model.

    Raises:
        ConfigError: If the parts that are there are of other options or another input, or more of the shard than
            `max_bad` could not be read.
    """
    shard = Shard(cfg.shard, cfg.n_shards)
    parts = Parts(Path(cfg.parts_dir), shard, cfg.table)
    with parts.held():
        parts.claim(_description(cfg, given, predictor))
        count = _ShardJob(cfg, parts, predictor).run(find_sources(given, cfg.network, shard))
    log.info(
        "Shard %d of %d: %d items, %d of them predicted now, %d faces, %d not read. Parts: %s",
        *(shard.index, shard.count, count.items, count.new, count.faces, count.bad, cfg.parts_dir),
    )
    if count.bad > cfg.max_bad * count.items:
        raise ConfigError(
            f"{count.bad} of {count.items} items of shard={cfg.shard} could not be read, or not to their end, more "
            f"than max_bad={cfg.max_bad:g}, such as {printable(count.example)}. The rest is predicted. Raise "
            f"max_bad, or repair them and remove the files in {cfg.parts_dir}/{layout.ITEM_PARTS} that name them."
        )


def _description(cfg: DictConfig, given: Given, predictor: EmotionPredictor) -> dict[str, Any]:
    """Return everything that rows depend on."""
    backend = predictor.backend
    onnx = backend.location if isinstance(backend, OnnxBackend) else None
    path = find_checkpoint(onnx or cfg.ckpt_path or DEFAULT_WEIGHTS)
    options = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(OPTIONS))))
    return {
        "input": given,
        "ckpt_path": f"{path.name}, SHA-256 {file_sha256(path)}",
        "head.vocabulary": cfg.head.vocabulary,
        "backend": "onnx" if onnx else "torch",
        # Where `auto` leads to something else on another machine, so do the numbers.
        "precision": getattr(backend, "precision", None),
        **options,
    }


@dataclass
class _Count:
    """Items of a shard: all, those predicted now, their faces, those not read, and one of these."""

    items: int = 0
    new: int = 0
    faces: int = 0
    bad: int = 0
    example: str = field(default="", repr=False)

    def add(self, source: str, status: str, faces: int) -> None:
        self.items += 1
        self.faces += faces
        if status in UNREAD:
            self.bad += 1
            self.example = source


class _ShardJob:
    """Walks through the sources of a shard: passes over those of parts that are there, and predicts the others."""

    def __init__(self, cfg: DictConfig, parts: Parts, predictor: EmotionPredictor) -> None:
        self.cfg, self.parts, self.predictor = cfg, parts, predictor
        self.count = _Count()

    def run(self, sources: Iterator[Source]) -> _Count:
        """Finish the shard."""
        for start in self.parts.starts():
            while self.count.items < start and self._predict(sources, start - self.count.items):
                pass
            self._pass_over(sources, start)
        while self._predict(sources):
            pass
        return self.count

    def _pass_over(self, sources: Iterator[Source], start: int) -> None:
        """Check that a part is of the sources that come next."""
        rows = self.parts.items(start) if start == self.count.items else []
        expected = sorted(row["source"] for row in rows)
        found = sorted(source.name for source in islice(sources, len(rows)))
        if not rows or found != expected:
            gone = next(iter(set(expected) - set(found)), None)
            reason = f"{printable(gone)} is no longer in its place" if gone else "sources are gone"
            raise ConfigError(self._changed(start, reason))
        for row in rows:
            self.count.add(row["source"], row["status"], int(row["faces"]))

    def _changed(self, start: int, reason: str) -> str:
        path = self.parts.path(layout.ITEM_PARTS, start)
        return (
            f"input={self.cfg.input} has changed since {path} was written ({reason}). Restore it, or {OTHER_FOLDER}; "
            "only what is added after all others is predicted into the same folder."
        )

    def _predict(self, sources: Iterator[Source], room: int | None = None) -> bool:
        """Predict the next part; return whether there was anything.

        Args:
            sources: What is left.
            room: Sources before the next part that is there, if any.
        """
        size = self.cfg.part_size if room is None else min(room, self.cfg.part_size)
        first = next(sources, None)
        if first is None:
            return False
        start, began = self.count.items, time.monotonic()
        with self._job(start) as job:
            items = job.run(chain([first], islice(sources, size - 1)))
            if room is not None and len(items) < size:
                raise ConfigError(self._changed(start, "sources are gone"))
        for item in items:
            self.count.add(item.source, item.status, item.faces)
        self.count.new += len(items)
        speed = len(items) / (time.monotonic() - began)
        bad = sum(item.status in UNREAD for item in items)
        log.info("Items %d to %d: %d not read, %.0f a second", start, self.count.items - 1, bad, speed)
        return True

    @contextmanager
    def _job(self, start: int) -> Iterator[PredictionJob]:
        """Yield what predicts a part, whose files get their names at the end, the items' at last."""
        backend, people = self.predictor.backend, list[dict[str, Any]]()
        files = [self.parts.path(table, start) for table in (layout.ITEM_PARTS, layout.PREDICTION_PARTS)]
        with atomic_write(files[0], alone=True) as items, atomic_write(files[1], alone=True) as table:
            with (
                PredictionTable(table, self.cfg.table, backend.class_names, backend.outputs) as rows,
                open_text(items) as file,
            ):
                yield PredictionJob(self.cfg, self.predictor, rows, file, people.extend)
            if people:
                self._write_people(start, people)

    def _write_people(self, start: int, rows: list[dict[str, Any]]) -> None:
        path = self.parts.path(layout.PEOPLE_PARTS, start)
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path, alone=True) as scratch, open_text(scratch) as file:
            people_writer(file, self.predictor).writerows(rows)
