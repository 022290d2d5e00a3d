"""One training run, from configuration to `metrics.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer, seed_everything
from torch import nn

from src.callbacks.checkpoints import BestCheckpoint
from src.callbacks.history import FitSpeed
from src.callbacks.stop import StopOnSignal
from src.callbacks.test_report import Results
from src.data.datamodule import StoreDataModule
from src.models.build import build_model, new_spec
from src.models.classifier import SPEC_KEY, ExpressionClassifier
from src.models.spec import ModelSpec
from src.models.weights import (
    MODEL_PREFIXES,
    find_checkpoint,
    load_strictly,
    load_weights,
    read_checkpoint,
    save_safetensors,
    weights_id,
)
from src.pipeline import (
    build_callbacks,
    build_data,
    build_loggers,
    build_trainer,
    choose_precision,
    evaluate,
    plain,
    write_results,
)
from src.utils.errors import ConfigError
from src.utils.processes import is_main_process
from src.utils.run_directory import update_provenance
from src.utils.signals import stop_requests
from src.wandb_logger import finish_wandb

log = logging.getLogger(__name__)


def fit_and_test(cfg: DictConfig) -> Results:
    """Fit a model, test its best checkpoint and write the run directory.

    Args:
        cfg: Configuration of `conf/train.yaml`.

    Returns:
        The numbers of `metrics.json`.

    Raises:
        ConfigError: If something in the configuration cannot work.
    """
    seed_everything(cfg.seed, workers=True, verbose=False)
    resume = resume_point(cfg)
    data = build_data(cfg, transform=plain(cfg.transform), image_size=cfg.data.image_size or cfg.backbone.image_size)
    data.prepare_data()
    precision = choose_precision(cfg)
    model = _new_model(cfg, data, precision)
    _check_batch_norm(model, data)
    if resume:
        _check_resume(resume, model.spec, cfg)
    failed = True
    try:
        loggers = build_loggers(cfg)
        for logger in loggers:
            logger.log_hyperparams(plain(cfg))
        callbacks = [*build_callbacks(cfg), StopOnSignal()]
        trainer = build_trainer(cfg, callbacks, loggers, precision)
        with stop_requests.deferred():
            trainer.fit(model, datamodule=data, ckpt_path=str(resume) if resume else None)
        results = _speed(callbacks)
        _load_best(trainer, model)
        results |= evaluate(cfg, model, data, loggers=loggers, precision=precision, callbacks=callbacks, validate=True)
        if is_main_process():
            save_safetensors(model, Path(cfg.run_dir) / "checkpoints" / "best.safetensors")
        update_provenance(Path(cfg.run_dir), data=data.fingerprint, weights=weights_id(cfg.backbone.weights))
        write_results(cfg, results, loggers)
        failed = False
    finally:
        finish_wandb(failed)
    return results


def resume_point(cfg: DictConfig) -> Path | None:
    """Return the checkpoint that `ckpt_path` means, None for a fresh start.

    Raises:
        ConfigError: If there is none.
    """
    if cfg.ckpt_path is None:
        return None
    location = cfg.run_dir if cfg.ckpt_path == "last" else cfg.ckpt_path
    return find_checkpoint(str(location), "last.ckpt")


def _new_model(cfg: DictConfig, data: StoreDataModule, precision: str) -> ExpressionClassifier:
    backbone, head = plain(cfg.backbone), plain(cfg.head)
    outputs = ["expression"]
    if cfg.head.valence_arousal:
        if not data.has_valence_arousal:
            raise ConfigError(
                f"head.valence_arousal=true, but data={data.name} has no valence and arousal; set it to false."
            )
        _check_mixing(data)
        outputs.append("valence_arousal")
    spec = new_spec(
        backbone,
        head,
        data.class_names,
        image_size=data.image_size,
        grayscale=data.store.is_gray,
        outputs=tuple(outputs),
        trained_on=data.fingerprint,
        precision=precision,
    )
    data.grayscale = spec.grayscale
    return build_model(
        spec,
        backbone,
        loss=instantiate(cfg.loss, class_counts=data.class_counts("train").tolist(), _convert_="all"),
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        scheduler=instantiate(cfg.scheduler, _convert_="all"),
    )


def _check_mixing(data: StoreDataModule) -> None:
    """Refuse to train valence and arousal on mixed pictures: half of one face and half of another have neither."""
    for key in ("mixup", "cutmix"):
        value = getattr(data.transform, key)
        if value:
            raise ConfigError(
                f"transform.{key}={value} with head.valence_arousal=true: mixed pictures have no valence and arousal; "
                f"expected transform.{key}=0. Set it, or head.valence_arousal=false."
            )


def _check_batch_norm(model: ExpressionClassifier, data: StoreDataModule) -> None:
    """Refuse to train batch-norm on single pictures: a vector or a 1 x 1 map then has no variance."""
    model.train()
    trained = any(m.training and isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
    if trained and min(data.batch_size, len(data.split_rows("train")[0])) == 1:
        raise ConfigError(
            f"data.batch_size={data.batch_size} with batch-norm to train (head {model.spec.head['name']}): it cannot "
            "estimate a variance from one picture. Set data.batch_size to 2 or more."
        )


def _check_resume(path: Path, spec: ModelSpec, cfg: DictConfig) -> None:
    checkpoint: dict[str, Any] = read_checkpoint(path)
    known = ModelSpec.from_dict(checkpoint.get(SPEC_KEY) or {})
    for what, theirs, ours in (
        ("head", known.head, spec.head),
        ("backbone", known.backbone, spec.backbone),
        ("data.image_size", known.image_size, spec.image_size),
        ("classes", known.class_names, spec.class_names),
    ):
        if theirs != ours:
            raise ConfigError(
                f"ckpt_path={cfg.ckpt_path} ({path}) was trained with {what} {theirs}, not {ours}; resume with the "
                "same options, or start afresh without ckpt_path."
            )
    done = int(checkpoint["epoch"]) + 1
    if done >= cfg.trainer.max_epochs:
        raise ConfigError(
            f"trainer.max_epochs={cfg.trainer.max_epochs} is already reached: {path} has {done} finished epochs. Set "
            f"trainer.max_epochs above {done} to go on."
        )


def _load_best(trainer: Trainer, model: ExpressionClassifier) -> None:
    callback = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
    if callback is None or not callback.best_model_path:
        log.warning("No best checkpoint (callbacks.best is off, or no epoch was validated): testing the last weights.")
        return
    weights = load_weights(Path(callback.best_model_path))
    load_strictly(model, weights.state, weights.path, MODEL_PREFIXES)


def _speed(callbacks: list[Callback]) -> Results:
    for callback in callbacks:
        if isinstance(callback, FitSpeed):
            return {"fit/seconds": callback.seconds, "fit/images_per_second": callback.images_per_second}
    return {}
