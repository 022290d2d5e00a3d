"""From `input=` to tables, annotated images and videos."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.data.readers.file_tree import printable
from src.engine.predict_shard import check_shard, predict_shard
from src.engine.prediction_job import UNREAD, PredictionJob, people_writer
from src.inference.detection import build_detector
from src.inference.predictor import DEFAULT_WEIGHTS, EmotionPredictor
from src.inference.quality import QualityLimits
from src.inference.region import within
from src.inference.sources import Given, find_sources
from src.inference.tables import PredictionTable, open_text
from src.inference.video_writer import choose_encoder
from src.runs import layout
from src.utils.errors import ConfigError
from src.utils.extras import require_extra

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> None:
    """Predict `input=`, and write tables and annotated images and videos into the run directory.

    A shard of it, if `shard=` is given, see `src.engine.predict_shard`.

    Args:
        cfg: Configuration of `conf/predict.yaml`.

    Raises:
        ConfigError: If nothing can be predicted, or more of the input than `max_bad` could not.
    """
    given = _check_options(cfg)
    if cfg.shard is not None:
        check_shard(cfg, given)
        predict_shard(cfg, given, _load_predictor(cfg))
        return
    kinds = Counter(source.kind for source in find_sources(given, cfg.network))
    has_videos = any(kind != "picture" for kind in kinds)
    if cfg.annotate and has_videos:
        choose_encoder()  # refuses before the model is loaded
    predictor = _load_predictor(cfg)
    folder, backend = Path(cfg.run_dir), predictor.backend
    path = (folder / layout.PREDICTIONS).with_suffix(f".{cfg.table}")
    with (
        PredictionTable(path, cfg.table, backend.class_names, backend.outputs) as table,
        open_text(folder / layout.ITEMS) as file,
        open_text(folder / layout.PEOPLE) if has_videos else nullcontext() as people,
    ):
        write = people_writer(people, predictor).writerows if people else (lambda rows: None)
        job = PredictionJob(cfg, predictor, table, file, write, kinds.total())
        items = job.run(find_sources(given, cfg.network))
    faces = sum(item.faces for item in items)
    log.info("%d of %d items have faces, %d faces in all", sum(item.faces > 0 for item in items), len(items), faces)
    log.info("Run directory: %s", cfg.run_dir)
    bad = [item for item in items if item.status in UNREAD]
    if len(bad) > cfg.max_bad * len(items):
        raise ConfigError(
            f"{len(bad)} of {len(items)} items of input={cfg.input} could not be read, or not to their end, such as "
            f"{printable(bad[0].source)} ({bad[0].reason}); see items.csv. What could be read is in {cfg.run_dir}."
        )


def _check_options(cfg: DictConfig) -> Given:
    """Return what `input=` is given.

    Raises:
        ConfigError: If there is none, or options do not fit each other.
    """
    if cfg.input is None:
        raise ConfigError("input=null; give an image, a folder, a glob, a video or the number of a camera.")
    if cfg.end is not None and cfg.end <= cfg.start:
        raise ConfigError(f"end={cfg.end:g} is not after start={cfg.start:g}; set end to a later second, or to null.")
    if cfg.table == "parquet":
        require_extra("parquet")
    return OmegaConf.to_container(cfg.input) if OmegaConf.is_config(cfg.input) else cfg.input  # type: ignore[return-value]  # validated


def _load_predictor(cfg: DictConfig) -> EmotionPredictor:
    """Load the model and the detector that a configuration names."""
    return EmotionPredictor(
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
