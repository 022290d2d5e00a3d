"""One training run, from configuration to `metrics.json`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer, seed_everything
from torch import nn

from src.callbacks.checkpoints import BestCheckpoint
from src.callbacks.divergence import StopOnDivergence
from src.callbacks.evaluation_table import Results
from src.callbacks.history import FitSpeed
from src.callbacks.stop import StopOnSignal
from src.data.datamodule import StoreDataModule
from src.engine.build import (
    build_callbacks,
    build_data,
    build_trainer,
    choose_precision,
    evaluate_splits,
    opened_loggers,
    plain,
    write_results,
)
from src.engine.feature_cache import with_cached_features
from src.engine.load import starting_weights, weights_origin
from src.engine.resume import find_resume_point
from src.metrics.affect import affect_metric_names
from src.metrics.classification import metric_names
from src.metrics.landmarks import LANDMARK_METRIC, REGIONS, region_metric
from src.models.build import build_model, continue_spec, find_origin, new_spec
from src.models.classifier import ExpressionClassifier
from src.models.losses import MultiTaskLoss
from src.models.registry import load_plugins
from src.models.spec import ModelSpec
from src.models.weights import (
    MODEL_PREFIXES,
    Weights,
    load_strictly,
    load_weights,
    save_safetensors,
)
from src.runs import layout
from src.runs.directory import update_provenance
from src.utils.errors import ConfigError
from src.utils.processes import is_main_process
from src.utils.signals import stop_requests

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Fit, test, and return the monitored metric of the best epoch on the validation split; see `fit_and_test`."""
    return float(fit_and_test(cfg).get(cfg.monitor, float("nan")))  # type: ignore[arg-type]  # only intervals are lists


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
    _check_nodes(cfg)
    load_plugins(cfg.plugins)
    resume = find_resume_point(cfg)
    start = starting_weights(cfg.backbone.weights, cfg.backbone.sha256)
    precision = choose_precision(cfg)
    with opened_loggers(cfg, step=resume.step if resume else 0, precision=precision) as loggers:
        callbacks = [*build_callbacks(cfg), StopOnSignal(), StopOnDivergence()]
        trainer = build_trainer(cfg, callbacks, loggers, precision, resume.epochs_to_end if resume else None)
        model, data = build_model_and_data(cfg, start, precision, resume.spec if resume else None)
        if resume:
            resume.check(model)
            # Features of a frozen backbone are computed before Lightning loads the checkpoint.
            load_strictly(model, load_weights(resume.path).state, resume.path, MODEL_PREFIXES)
            _forget_results(Path(cfg.run_dir))
        data = with_cached_features(cfg, model, data, trainer)
        with stop_requests.deferred(), resume.restored_by(trainer) if resume else nullcontext():
            trainer.fit(model, datamodule=data, ckpt_path=str(resume.path) if resume else None)
        results = _speed(callbacks)
        _load_best(trainer, model)
        results |= evaluate_splits(
            cfg,
            model,
            data,
            loggers=loggers,
            precision=precision,
            callbacks=callbacks,
            validate=True,
            test=cfg.test,
        )
        if is_main_process():
            save_safetensors(model, Path(cfg.run_dir) / layout.BEST_WEIGHTS)
        update_provenance(Path(cfg.run_dir), data=data.fingerprint, **weights_origin(cfg.backbone.weights))
        write_results(cfg, results, loggers, shows_people=data.shows_people)
    return results


def build_model_and_data(
    cfg: DictConfig, start: Weights | None, precision: str, resumed: ModelSpec | None = None
) -> tuple[ExpressionClassifier, StoreDataModule]:
    """Build the model to train and its data; see `new_model`.

    Raises:
        ConfigError: If they do not fit, or cannot be trained so.
    """
    size = cfg.data.image_size or (start.spec.image_size if start else cfg.backbone.image_size)
    data = build_data(cfg, image_size=size)
    data.prepare_data()
    model = new_model(cfg, data, start, precision, resumed)
    data = data.with_grayscale(model.spec.grayscale)
    _check_batch_norm(model, data)
    _check_monitor(cfg, model)
    return model, data


def new_model(
    cfg: DictConfig, data: StoreDataModule, start: Weights | None, precision: str, resumed: ModelSpec | None = None
) -> ExpressionClassifier:
    """Build the model of `backbone=` and `head=` for a data set, starting from weights if there are any.

    Args:
        cfg: Configuration of `conf/train.yaml`.
        data: Data set.
        start: Weights to start from.
        precision: Lightning's name of the numeric precision.
        resumed: Model of the run that is resumed, which may be older than today's ranges of features and origins. Its
            weights are those that go on, whatever `backbone.weights` says now.

    Raises:
        ConfigError: If model and data do not fit.
    """
    if len(data.class_names) < 2:
        raise ConfigError(
            f"data={data.name} has the single class {', '.join(data.class_names)}; expected two or more to tell apart. "
            "Check data.path and data.classes."
        )
    backbone, head = plain(cfg.backbone), plain(cfg.head)
    outputs = ["expression"]
    if cfg.head.valence_arousal:
        if not data.has_valence_arousal:
            raise ConfigError(
                f"head.valence_arousal=true, but data={data.name} has no valence and arousal; set it to false."
            )
        outputs.append("valence_arousal")
    elif bool((data.loaded_rows("train")[1] < 0).any()):
        raise ConfigError(
            f"head.valence_arousal=false, but data={data.name} has training images with nothing else, which this head "
            "cannot learn from; set it to true, or serve images with an expression (data.annotations=expression)."
        )
    if _has_landmarks(cfg, data, start):
        outputs.append("landmarks")
    origin = find_origin(cfg.backbone.weights, start)
    if resumed:
        origin = resumed.origin or origin.at_least(resumed.license)
    spec = new_spec(
        backbone,
        head,
        data.class_names,
        image_size=data.image_size,
        grayscale=data.store.is_gray,
        outputs=tuple(outputs),
        trained_on=data.trained_on,
        derived=tuple(name for name in data.derived if name in outputs),
        precision=precision,
        vocabularies=data.vocabularies,
        origin=origin,
    )
    if start:
        spec = continue_spec(spec, start.spec, backbone)
    if resumed:
        spec = spec.with_range(resumed)
    return build_model(
        spec,
        backbone,
        start,
        loss=build_loss(cfg, data.class_counts("train").tolist()),
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        scheduler=instantiate(cfg.scheduler, _convert_="all"),
    )


def build_loss(cfg: DictConfig, class_counts: Sequence[int]) -> MultiTaskLoss:
    """Build the loss of `loss=`.

    Args:
        cfg: Configuration of `conf/train.yaml`.
        class_counts: Training images per class, (n_classes,).
    """
    options = plain(cfg.loss)
    # A loss of one's own need not list them.
    weights = {
        "auxiliary_weight": options.pop("auxiliary_weight", cfg.auxiliary_weight),
        "landmark_weight": options.pop("landmark_weight", None),
    }
    return MultiTaskLoss(instantiate(options, class_counts=class_counts, _convert_="all"), **weights)


def _has_landmarks(cfg: DictConfig, data: StoreDataModule, start: Weights | None) -> bool:
    """Return whether landmarks are a trained output: this run trains them, or leaves trained ones as they are."""
    frozen = cfg.backbone.freeze != "none"
    if not cfg.backbone.landmarks:
        official = start is None and cfg.backbone.weights is not None
        return frozen and (official or (start is not None and "landmarks" in start.spec.outputs))
    if not data.has_landmarks:
        raise ConfigError(f"backbone.landmarks=true, but data={data.name} has no landmarks; set it to false.")
    if frozen:
        raise ConfigError(
            f"backbone.landmarks=true with backbone.freeze={cfg.backbone.freeze}, which leaves the heat maps as they "
            "are; set backbone.freeze=none, or backbone.landmarks=false to keep what the weights have."
        )
    return True


def _check_nodes(cfg: DictConfig) -> None:
    """Refuse nodes that would each write into a folder named after their own start."""
    hydra = HydraConfig.get()
    told = any(override.startswith("hydra.run.dir=") for override in hydra.overrides.hydra)
    if cfg.trainer.num_nodes > 1 and hydra.mode != RunMode.MULTIRUN and not told:
        raise ConfigError(
            f"trainer.num_nodes={cfg.trainer.num_nodes} without hydra.run.dir; expected one folder that all nodes see. "
            "Start the command on every node with the same hydra.run.dir=outputs/runs/<run>."
        )


def _check_batch_norm(model: ExpressionClassifier, data: StoreDataModule) -> None:
    """Refuse to train batch-norm on single images: a vector or a 1 x 1 map then has no variance."""
    model.train()
    trained = any(m.training and isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
    if trained and min(data.batch_size, len(data.loaded_rows("train")[0])) == 1:
        raise ConfigError(
            f"data.batch_size={data.batch_size} with batch-norm to train (head {model.spec.head['name']}): it cannot "
            "estimate a variance from one image. Set data.batch_size to 2 or more."
        )


def _check_monitor(cfg: DictConfig, model: ExpressionClassifier) -> None:
    """Refuse a monitor that no epoch will log."""
    known = ["val/loss", *(f"val/{name}" for name in metric_names(model.spec.class_names))]
    if "valence_arousal" in model.spec.outputs:
        known += [f"val/{name}" for name in affect_metric_names()]
    if "landmarks" in model.spec.outputs:
        known += [f"val/{name}" for name in (LANDMARK_METRIC, *map(region_metric, REGIONS))]
    if cfg.monitor not in known:
        raise ConfigError(
            f"monitor={cfg.monitor} is no metric of the validation split; expected one of {', '.join(known)}."
        )


def _forget_results(run_dir: Path) -> None:
    """Remove the results of the epochs before: a run that fails must not show them as its own."""
    if is_main_process():
        for name in (layout.METRICS, layout.PREDICTIONS):
            (run_dir / name).unlink(missing_ok=True)


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
