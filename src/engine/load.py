"""A trained model and the data set to try it on, from a configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import seed_everything

from src.data import options
from src.data.datamodule import StoreDataModule
from src.data.vocabulary import canonical_order
from src.engine.build import build_data, plain
from src.models.build import build_model, official_spec
from src.models.classifier import ExpressionClassifier
from src.models.registry import load_plugins
from src.models.spec import ModelSpec
from src.models.test_time import TestTimeAugmentation
from src.models.weights import Weights, build_from_weights, check_fingerprint, load_weights
from src.runs import hub, layout
from src.runs.config import is_plain, read_config
from src.runs.directory import write_config
from src.runs.records import read_provenance
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.paths import ROOT
from src.utils.validation import check_values


def load_model_and_data(
    cfg: DictConfig, *, drop_absent: bool = False, test_time_augmentation: TestTimeAugmentation = "none"
) -> tuple[ExpressionClassifier, StoreDataModule]:
    """Return the model, with the vocabulary that suits the data, and the data in the model's order of classes.

    Args:
        cfg: Configuration with `ckpt_path`, `data`, `backbone` and `head`, as in `conf/eval.yaml`, which
            `with_data_of_run` has completed.
        drop_absent: Whether the model never predicts the classes that the data lack.
        test_time_augmentation: Views over which a test averages the class probabilities.

    Raises:
        ConfigError: If there is no model, or the configuration cannot work.
    """
    seed_everything(cfg.seed, workers=True, verbose=False)
    load_plugins(cfg.plugins)
    weights = _our_weights(cfg)
    spec = weights.spec if weights else _official_spec(cfg)
    data = build_data(cfg, image_size=cfg.data.image_size or spec.image_size, grayscale=spec.grayscale)
    if not weights or weights.spec.vocabularies or cfg.head.vocabulary is not None:
        spec = spec.with_vocabulary(cfg.head.vocabulary, data.own_classes)
    data = data.with_classes(spec.class_names)
    use: dict[str, Any] = {
        "absent_classes": data.absent_classes if drop_absent else (),
        "test_time_augmentation": test_time_augmentation,
    }
    if weights:
        return build_from_weights(replace(weights, spec=spec), **use), data
    return build_model(spec, plain(cfg.backbone), **use), data


def _our_weights(cfg: DictConfig) -> Weights | None:
    """Read the weights of ours that `ckpt_path`, or else `backbone=` with its own head, names."""
    chosen = cfg.get("backbone")
    if cfg.ckpt_path is None and chosen is not None and cfg.head.get("name") is not None:
        start = starting_weights(chosen.weights, chosen.sha256)
        if start is not None and start.spec.head["name"] == cfg.head.name:
            return start
    if cfg.ckpt_path is None:
        return None
    weights = load_weights(layout.find_checkpoint(cfg.ckpt_path))
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


def with_data_of_run(cfg: DictConfig) -> DictConfig:
    """Return a configuration without `data=` with the data set of the run directory, and write it as the run's.

    The data set's name there chooses a file of ours; its values follow.

    Raises:
        ConfigError: If the run's own configuration is not what a run writes.
    """
    cfg = _with_data_of_run(cfg)
    write_config(Path(cfg.run_dir), plain(cfg))
    return cfg


def _with_data_of_run(cfg: DictConfig) -> DictConfig:
    overrides = list(HydraConfig.get().overrides.task)
    if cfg.ckpt_path is None or any(o.split("=")[0] == "data" for o in overrides):
        return cfg
    run_dir = layout.run_of(str(cfg.ckpt_path))
    name = read_provenance(run_dir).get("choices", {}).get("data")
    config = run_dir / layout.CONFIG
    if not name or not config.is_file():
        return cfg
    try:
        own = load_group("data", str(name))
    except ConfigError as error:
        raise ConfigError(
            f"{run_dir} was trained on data={name}, which this project has no file for. Name the data set: "
            f"data={name} with the --config-dir that the run had, or another one."
        ) from error
    known = read_config(run_dir).get("data") or {}
    for key in [key for key in own if not key.startswith("_") and key not in ("name", *options.OF_THE_RUN)]:
        value = known.get(key)
        if "${" in str(value):
            raise ConfigError(
                f"{config}: data.{key} holds an interpolation ({value}), which a run's configuration never does; "
                "nothing of it is used. Choose the data set yourself: data=..."
            )
        if value is not None and is_plain(value):
            own[key] = value
    chosen = [o.removeprefix("data.") for o in overrides if o.startswith("data.")]
    completed = cfg.copy()
    with open_dict(completed):
        completed.data = OmegaConf.merge(own, OmegaConf.from_dotlist(chosen))
    check_values(completed, options.RULES, options.CHOICES)
    return completed


def starting_weights(location: str | None, sha256: str | None = None) -> Weights | None:
    """Read weights of ours that a new model starts from; None for no weights and for official ones.

    Args:
        location: `backbone.weights`.
        sha256: `backbone.sha256`: what a file in `pretrained/` must be; None for anything.

    Raises:
        ConfigError: If they are missing, broken or other ones.
    """
    if location is None or (str(location).endswith(".pth") and not hub.is_on_hub(str(location))):
        return None
    path = layout.find_checkpoint(str(location), argument="backbone.weights")
    if path.resolve().is_relative_to(ROOT / "pretrained"):
        check_fingerprint(path, sha256)
    return load_weights(path)


def weights_origin(location: str | None) -> dict[str, str | None]:
    """Return what `provenance.json` says of the weights that a run starts from.

    Returns:
        `weights`, the file's git blob id, None if the run starts afresh; and `weights_commit` of the Hugging Face Hub,
        if that is where they are from.
    """
    if location is None:
        return {"weights": None}
    origin: dict[str, str | None] = {"weights": git_blob_id(layout.find_checkpoint(location))}
    if hub.is_on_hub(location):
        origin["weights_commit"] = hub.find(location, "ckpt_path").commit
    return origin
