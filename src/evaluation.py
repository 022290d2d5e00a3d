"""One evaluation, from a weights file to `metrics.json`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import seed_everything

from src.callbacks.test_table import Results
from src.data.datamodule import StoreDataModule
from src.data.store import Split
from src.data.vocabulary import canonical_order
from src.models.build import build_model, official_spec, starting_weights
from src.models.classifier import ExpressionClassifier
from src.models.compiled import compile_for_prediction
from src.models.spec import ModelSpec
from src.models.test_time import n_views
from src.models.weights import Weights, build_from_weights, file_sha256, find_checkpoint, load_weights, weights_id
from src.pipeline import build_callbacks, build_data, build_loggers, choose_precision, evaluate, plain, write_results
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.run_directory import read_json, update_provenance, write_config
from src.wandb_logger import closed_wandb

log = logging.getLogger(__name__)

NO_AUGMENTATION = {"name": "none"}


def test(cfg: DictConfig) -> Results:
    """Test a model; everything about it comes from its weights.

    Args:
        cfg: Configuration of `conf/eval.yaml`.

    Returns:
        The numbers of `metrics.json`.

    Raises:
        ConfigError: If there is no model, or the configuration cannot work.
    """
    take_data_from_run(cfg)
    write_config(Path(cfg.run_dir), cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = load_model_and_data(cfg)
    precision = choose_precision(cfg)
    data.prepare_data()
    model.absent_classes = data.absent_classes
    model.test_time_augmentation = cfg.tta
    _report_vocabularies(data, cfg.split)
    compile_for_prediction(
        model,
        cfg.compile,
        n_pictures=len(data.split_rows(cfg.split)[0]) * n_views(cfg.tta),
        image_size=data.image_size,
        batch_size=data.batch_size,
        precision=precision,
        cache=data.cache_dir / "inductor",
    )
    with closed_wandb():
        loggers = build_loggers(cfg)
        described = {**plain(cfg), "head": model.spec.head, "backbone": model.spec.backbone, "precision": precision}
        for logger in loggers:
            logger.log_hyperparams(described)
        callbacks = build_callbacks(cfg)
        results = evaluate(
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
        update_provenance(Path(cfg.run_dir), data=data.fingerprint, weights=weights_id(location), weights_sha256=digest)
        write_results(cfg, results, loggers)
    return results


test.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def _report_vocabularies(data: StoreDataModule, split: Split) -> None:
    """Log what the classes of model and data do not share."""
    dropped = ", ".join(data.class_names[i] for i in data.absent_classes)
    if dropped:
        log.warning("data=%s lacks %s: these probabilities are dropped, the rest sums to 1.", data.name, dropped)
    unknown = ", ".join(name for name in data.own_classes if name not in data.class_names)
    if unknown:
        n = data.split_rows(split)[2]
        log.warning("The model lacks %s: such pictures are left out (%s/n_unmapped = %d).", unknown, split, n)


def load_model_and_data(cfg: DictConfig) -> tuple[ExpressionClassifier, StoreDataModule]:
    """Return the model, with the vocabulary that suits the data, and the data in the model's order of classes.

    Args:
        cfg: Configuration with `ckpt_path`, `data`, `backbone` and `head`, as in `conf/eval.yaml`.

    Raises:
        ConfigError: If there is no model, or the configuration cannot work.
    """
    weights = _our_weights(cfg)
    spec = weights.spec if weights else _official_spec(cfg)
    data = build_data(
        cfg,
        transform=NO_AUGMENTATION,
        image_size=cfg.data.image_size or spec.image_size,
        grayscale=spec.grayscale,
    )
    if weights and not weights.spec.vocabularies and cfg.head.vocabulary is None:
        data.serve_classes(spec.class_names)
    else:
        spec = spec.with_vocabulary(cfg.head.vocabulary, data.own_classes)
        data.serve_classes(spec.class_names)
    model = build_from_weights(replace(weights, spec=spec)) if weights else build_model(spec, plain(cfg.backbone))
    return model, data


def _our_weights(cfg: DictConfig) -> Weights | None:
    """Read the weights of ours that `ckpt_path`, or else `backbone=` with its own head, names."""
    chosen = cfg.get("backbone")
    if cfg.ckpt_path is None and chosen is not None and cfg.head.get("name") is not None:
        start = starting_weights(chosen.weights, chosen.sha256)
        if start is not None and start.spec.head["name"] == cfg.head.name:
            return start
    if cfg.ckpt_path is None:
        return None
    weights = load_weights(find_checkpoint(cfg.ckpt_path))
    for group, own in (("head", weights.spec.head), ("backbone", weights.spec.backbone)):
        name = cfg[group].get("name") if cfg.get(group) is not None else None
        if name not in (None, own["name"]):
            raise ConfigError(
                f"{group}={name} does not fit ckpt_path={cfg.ckpt_path}, a model with "
                f"{group}={own['name']}; leave {group}= out, it comes from the checkpoint."
            )
    return weights


def _official_spec(cfg: DictConfig) -> ModelSpec:
    chosen = cfg.get("backbone")
    if chosen is None or cfg.head.get("name") != "emonet" or not chosen.class_names:
        raise ConfigError(
            "there is no model: set ckpt_path to a run directory, a .ckpt or a .safetensors, or use weights "
            "with a head of their own: backbone=emonet_8 head=emonet."
        )
    return official_spec(plain(chosen), plain(cfg.head), canonical_order(chosen.class_names))


def take_data_from_run(cfg: DictConfig) -> None:
    """Without `data=`, take the data set of the run directory: its name chooses a file of ours, values follow."""
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.ckpt_path is None or any(o.split("=")[0] == "data" for o in overrides):
        return
    location = Path(str(cfg.ckpt_path)).expanduser()
    run_dir = location if location.is_dir() else location.parent.parent
    name = read_json(run_dir / "provenance.json").get("choices", {}).get("data")
    config = run_dir / "config.yaml"
    if not name or not config.is_file():
        return
    own = load_group("data", str(name))
    known: dict[str, Any] = _unresolved(config).get("data", {})
    own |= {key: known[key] for key in own if _is_plain(known.get(key)) and key not in ("_target_", "name", "defaults")}
    own.pop("defaults", None)
    chosen = [o.removeprefix("data.") for o in overrides if o.startswith("data.")]
    with open_dict(cfg):
        cfg.data = OmegaConf.merge(own, OmegaConf.from_dotlist(chosen))


def _unresolved(config: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(config), resolve=False)
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}


def _is_plain(value: Any) -> bool:
    """Whether a value found in a run directory is text, a number, or lists or dictionaries that cannot name code."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and not k.startswith("_") and _is_plain(v) for k, v in value.items())
    return isinstance(value, str | int | float) or (isinstance(value, list) and all(map(_is_plain, value)))
