"""Kinds and ranges of configuration values, checked before anything is built."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Interval, Len
from omegaconf import DictConfig
from pydantic import InstanceOf, StrictBool, StrictInt, StrictStr, StringConstraints

from src.data import options
from src.metrics.directions import Mode, mode_of, monitor_mode
from src.models import arguments
from src.utils.errors import ConfigError
from src.utils.validation import (
    PRECISIONS,
    Choices,
    Fraction,
    Limit,
    Names,
    Natural,
    Number,
    Positive,
    PositiveNumber,
    Rules,
    check_values,
    select,
)

OnnxPrecision = Literal["fp32", "fp16", "int8"]

RULES: Rules = {
    **options.RULES,
    **arguments.RULES,
    "test": ("true or false", StrictBool),
    "seed": ("a whole number of 0 or more", Annotated[StrictInt, Interval(ge=0, lt=2**32)]),
    "data_dir": ("a folder", StrictStr),
    "plugins": ("names of Python modules, such as [my_package.my_head]", StrictStr | list[StrictStr]),
    "runs": ("directories or globs, such as outputs/runs/* or [a,b]", StrictStr | Names | None),
    "dedup": ("true or false", StrictBool),
    "cache": ("true, false or auto", StrictBool | Literal["auto"]),
    "compile": ("true, false or auto", StrictBool | Literal["auto"]),
    "by": ("keys of the configuration, such as [head,optimizer.lr], or null", Names | None),
    "derived": ("names of outputs, such as [valence_arousal], or null", Names | None),
    "calibrate": ("run directories, or null", StrictStr | Names | None),
    "rounds": ("a whole number of 1 or more", Positive),
    "n_images": ("a whole number of 1 or more", Positive),
    "ckpt_path": ("a path, or hf://owner/name", StrictStr | None),
    "hub": (
        "a repository of the Hugging Face Hub, owner/name, or null",
        Annotated[StrictStr, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] | None,
    ),
    "input": (
        "an image, a folder, a glob, an archive, a list of paths, a video, the number of a camera, or a list of these",
        StrictStr | Natural | list[StrictStr | Natural] | None,
    ),
    "network": ("true or false", StrictBool),
    "region": ("four fractions, such as [0.5, 0, 1, 1], or null", Annotated[list[Fraction], Len(4, 4)] | None),
    "detector_path": ("a path", StrictStr | None),
    "batch_size": ("a whole number of 1 or more", Positive),
    "device": ("auto, cpu or cuda", StrictStr),
    "quality.min_side": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "quality.max_outside": ("a number in [0, 1]", Annotated[Number, Interval(ge=0, le=1)]),
    "quality.min_frontality": ("a number in [0, 1]", Annotated[Number, Interval(ge=0, le=1)]),
    "quality.min_sharpness": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "start": ("a number of seconds of 0 or more", Annotated[Number, Ge(0)]),
    "end": ("a number of seconds above 0, or null", PositiveNumber | None),
    "every_n": ("a whole number of 1 or more", Positive),
    "smooth": ("true or false", StrictBool),
    "max_seconds": ("a number of seconds above 0, or null", PositiveNumber | None),
    "annotate": ("true or false", StrictBool),
    "landmarks": ("true or false", StrictBool),
    "gradcam": ("true or false", StrictBool),
    "max_bad": ("a fraction in [0, 1]", Fraction),
    "shard": ("a whole number of 0 or more, or null", Natural | None),
    "n_shards": ("a whole number of 1 or more", Positive),
    "part_size": ("a whole number of 1 or more", Positive),
    "parts_dir": ("a folder", StrictStr),
    "queue.max_size": ("a whole number of 1 or more", Positive),
    "queue.default_concurrency_limit": ("a whole number of 1 or more", Positive),
    "models": ("models to choose from, such as [outputs/runs/*]", Names),
    "port": ("a port from 1024 to 65535, or null", Annotated[StrictInt, Interval(ge=1024, le=65535)] | None),
    "max_mb": ("a number of MB above 0", Annotated[StrictInt, Gt(0)]),
    "source": ("the name of a source, or null", StrictStr | None),
    "accept_license": ("true or false", StrictBool),
    "onnx.precision": (
        "fp32, fp16 or int8, or several of them, such as [fp32,int8]",
        OnnxPrecision | Annotated[list[OnnxPrecision], Len(1)],
    ),
    "onnx.extra_outputs": ("heatmap, landmarks, both or none, as a list", list[Literal["heatmap", "landmarks"]]),
    "onnx.beside": ("true or false", StrictBool),
    "onnx.calibration_pictures": ("a whole number of 1 or more", Positive),
    "onnx.parity_pictures": ("a whole number of 1 or more", Positive),
    "backbone.url": (
        "an address that begins with https:// or http:// and holds no password and no token",
        Annotated[StrictStr, StringConstraints(pattern=r"^https?://[^\s@?#]+$")] | None,
    ),
    "backbone.grayscale": ("true, false or null", StrictBool | None),
    "backbone.landmarks": ("true or false", StrictBool),
    "backbone.lr_multiplier": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "head.valence_arousal": ("true or false", StrictBool),
    "head.key_channels": ("a whole number of 1 or more", Positive),
    "head.embed_dim": ("a whole number of 1 or more", Positive),
    "head.width": ("a whole number of 1 or more", Positive),
    "head.n_heads": ("a whole number of 1 or more", Positive),
    "optimizer.lr": ("a number above 0", PositiveNumber),
    "optimizer.weight_decay": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "optimizer.momentum": ("a number in [0, 1)", Annotated[Number, Interval(ge=0, lt=1)]),
    "scheduler.first_cycle": ("a number of epochs above 0", PositiveNumber),
    "scheduler.cycle_multiplier": ("a whole number of 1 or more", Positive),
    "scheduler.min_lr": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "scheduler.warmup": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "scheduler.factor": ("a factor in (0, 1)", Annotated[Number, Interval(gt=0, lt=1)]),
    "scheduler.patience": ("a whole number of 0 or more", Natural),
    "auxiliary_weight": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "loss.auxiliary_weight": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "loss.landmark_weight": ("a number of 0 or more, or null", Annotated[Number, Ge(0)] | None),
    "loss.label_smoothing": ("a number in [0, 1)", Annotated[Number, Interval(ge=0, lt=1)]),
    "loss.gamma": ("a number of 0 or more", Annotated[Number, Ge(0)]),
    "explain.compare": ("names of methods, such as [gradcam, occlusion]", Names),
    "explain.layer": ("a tap or a module, or null", StrictStr | None),
    "explain.against": ("two classes, such as [happy, sad], or null", Annotated[list[StrictStr], Len(2, 2)] | None),
    "explain.pictures": ("a whole number of 1 or more", Positive),
    "explain.scored": ("a whole number of 0 or more", Natural),
    "explain.regions": ("a whole number of 0 or more", Natural),
    "explain.searched": ("a whole number of 1 or more", Positive),
    # Lightning takes no whole number.
    "callbacks.swa.swa_lrs": (
        "a number above 0 with a point, such as 0.001",
        Annotated[InstanceOf[float], Gt(0)],
    ),
    "callbacks.swa.swa_epoch_start": (
        "an epoch from 1, or a fraction of the epochs in (0, 1)",
        Positive | Annotated[InstanceOf[float], Interval(gt=0, lt=1)],
    ),
    "callbacks.swa.annealing_epochs": ("a whole number of 1 or more", Positive),
    "callbacks.gradient_norms.every_n_steps": ("a whole number of 0 or more", Natural),
    "logger.wandb.tags": ("a list of words, such as [baseline]", list[StrictStr]),
    "logger.wandb.log_images": ("true or false", StrictBool),
    "logger.wandb.log_model": ("true or false", StrictBool),
    "logger.mlflow.experiment": ("a name", Annotated[StrictStr, Len(1)]),
    "logger.mlflow.folder": ("a folder", Annotated[StrictStr, Len(1)]),
    "logger.mlflow.log_images": ("true or false", StrictBool),
    "logger.wandb.timeout": ("a number of seconds above 0", PositiveNumber),
    "logger.wandb.finish_timeout": ("a number of seconds above 0", PositiveNumber),
    "trainer.max_epochs": ("a whole number of 1 or more", Positive),
    "trainer.devices": (
        "a number of devices of 1 or more, a list of their numbers, -1 or auto for all",
        Positive | Literal[-1, "auto"] | Annotated[list[Natural], Len(1)],
    ),
    "trainer.num_nodes": ("a whole number of 1 or more", Positive),
    "trainer.limit_train_batches": ("a number of batches, or a fraction in [0, 1]", Limit),
    "trainer.limit_val_batches": ("a number of batches, or a fraction in [0, 1]", Limit),
    "trainer.limit_test_batches": ("a number of batches, or a fraction in [0, 1]", Limit),
    "trainer.gradient_clip_val": ("a number of 0 or more, or null", Annotated[Number, Ge(0)] | None),
    "trainer.accumulate_grad_batches": ("a whole number of 1 or more", Positive),
}
# Keys that name a metric, and those that say which of its values is the best.
MODES = {
    "monitor": "monitor_mode",
    "scheduler.monitor": "scheduler.mode",
    "callbacks.best.monitor": "callbacks.best.mode",
    "callbacks.early_stopping.monitor": "callbacks.early_stopping.mode",
}
CHOICES: Choices = {
    **options.CHOICES,
    "split": ("test", "val"),
    "tune": (None, "lr", "batch_size"),
    "tta": ("none", "flip", "crops"),
    "metric": ("f1_macro", "accuracy", "balanced_accuracy", "f1_weighted"),
    "suite": ("data", "backbone", "cache", "loop", "predict", "video", "all"),
    "detector": ("retinaface", "haar", "yunet", "none"),
    "backend": ("auto", "torch", "onnx"),
    "precision": PRECISIONS,
    "table": ("csv", "jsonl", "parquet"),
    "explain.method": (*("auto", "gradcam", "hirescam", "eigencam", "occlusion", "integrated_gradients", "attention"),),
    "explain.split": ("val", "test"),
    "backbone.freeze": arguments.FREEZE_LEVELS,
    "backbone.normalize": (None, "imagenet"),
    "head.tap": arguments.TAPS,
    "loss.class_weights": ("none", "balanced"),
    **dict.fromkeys(MODES.values(), get_args(Mode)),
}


def validate_config(cfg: DictConfig) -> None:
    """Check every known value.

    Raises:
        ConfigError: At the first value of a wrong kind or outside its range, or that contradicts another one.
    """
    if "monitor" in cfg:
        monitor_mode(str(cfg.monitor))
    check_values(cfg, RULES, CHOICES)
    for key, mode_key in MODES.items():
        monitor, mode = select(cfg, key), select(cfg, mode_key)
        best = mode_of(str(monitor))
        if best is not None and mode != best:
            better = "larger" if best == "max" else "smaller"
            raise ConfigError(
                f"{mode_key}={mode} contradicts {key}={monitor}, of which {better} values are better; expected {best}. "
                f"Leave {mode_key} out: it follows from the metric."
            )
