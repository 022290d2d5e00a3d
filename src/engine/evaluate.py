"""One evaluation, from a weights file to `metrics.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.callbacks.evaluation_table import Results
from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import Split
from src.engine.build import (
    build_callbacks,
    choose_precision,
    evaluate_splits,
    opened_loggers,
    write_results,
)
from src.engine.load import load_model_and_data, weights_origin, with_data_of_run
from src.models.compiled import compile_for_prediction
from src.models.test_time import n_views
from src.runs.directory import update_provenance
from src.runs.layout import find_checkpoint
from src.utils.checksums import file_sha256

log = logging.getLogger(__name__)


def evaluate_model(cfg: DictConfig) -> float:
    """Evaluate a model, and return its accuracy; see `evaluate`."""
    return float(evaluate(cfg).get(f"{cfg.split}/accuracy", float("nan")))  # type: ignore[arg-type]  # only intervals are lists


def evaluate(cfg: DictConfig) -> Results:
    """Evaluate a model; everything about it comes from its weights.

    Args:
        cfg: Configuration of `conf/eval.yaml`.

    Returns:
        The numbers of `metrics.json`.

    Raises:
        ConfigError: If there is no model, or the configuration cannot work.
    """
    cfg = with_data_of_run(cfg)
    model, data = load_model_and_data(cfg, drop_absent=True, test_time_augmentation=cfg.tta)
    precision = choose_precision(cfg)
    data.prepare_data()
    _report_vocabularies(data, cfg.split)
    compile_for_prediction(
        model,
        cfg.compile,
        n_images=len(data.loaded_rows(cfg.split)[0]) * n_views(cfg.tta),
        image_size=data.image_size,
        batch_size=data.batch_size,
        precision=precision,
        cache=data.cache_dir / "inductor",
    )
    described: dict[str, Any] = {"head": model.spec.head, "backbone": model.spec.backbone, "precision": precision}
    with opened_loggers(cfg, **described) as loggers:
        callbacks = build_callbacks(cfg)
        results = evaluate_splits(
            cfg,
            model,
            data,
            loggers=loggers,
            precision=precision,
            callbacks=callbacks,
            validate=cfg.split == "val",
            test=cfg.split == "test",
        )
        location = cfg.ckpt_path or cfg.backbone.weights
        digest = file_sha256(find_checkpoint(location))
        update_provenance(Path(cfg.run_dir), data=data.fingerprint, **weights_origin(location), weights_sha256=digest)
        write_results(cfg, results, loggers, shows_people=data.shows_people)
    return results


def _report_vocabularies(data: StoreDataModule, split: Split) -> None:
    """Log what the classes of model and data do not share."""
    dropped = ", ".join(data.class_names[i] for i in data.absent_classes)
    if dropped:
        log.warning("data=%s lacks %s: these probabilities are dropped, the rest sums to 1.", data.name, dropped)
    unknown = ", ".join(name for name in data.own_classes if name not in data.class_names)
    if unknown:
        n = data.served_rows(split)[2]
        log.warning("The model lacks %s: such images are left out (%s/n_unmapped = %d).", unknown, split, n)
