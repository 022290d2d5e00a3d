"""One evaluation, from a weights file to `metrics.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import seed_everything

from src.callbacks.test_report import Results
from src.data.datamodule import StoreDataModule
from src.data.vocabulary import canonical_order
from src.models.build import build_model, new_spec
from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, find_checkpoint, load_weights, weights_id
from src.pipeline import build_callbacks, build_data, build_loggers, choose_precision, evaluate, plain, write_results
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.run_directory import read_json, update_provenance, write_config
from src.wandb_logger import finish_wandb

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
    _take_data_from_run(cfg)
    write_config(Path(cfg.run_dir), cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    model = _load_model(cfg)
    precision = choose_precision(cfg, model.spec.precision)
    data = build_data(
        cfg,
        transform=NO_AUGMENTATION,
        class_names=model.spec.class_names,
        image_size=cfg.data.image_size or model.spec.image_size,
        grayscale=model.spec.grayscale,
    )
    data.prepare_data()
    model.absent_classes = data.absent_classes
    _report_vocabularies(data)
    failed = True
    try:
        loggers = build_loggers(cfg)
        callbacks = build_callbacks(cfg)
        results = evaluate(cfg, model, data, loggers=loggers, precision=precision, callbacks=callbacks, validate=False)
        weights = weights_id(cfg.ckpt_path or cfg.backbone.weights)
        update_provenance(Path(cfg.run_dir), data=data.fingerprint, weights=weights)
        write_results(cfg, results, loggers)
        failed = False
    finally:
        finish_wandb(failed)
    return results


test.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def _report_vocabularies(data: StoreDataModule) -> None:
    """Log what the classes of model and data do not share."""
    dropped = ", ".join(data.class_names[i] for i in data.absent_classes)
    if dropped:
        log.warning("data=%s lacks %s: these probabilities are dropped, the rest sums to 1.", data.name, dropped)
    unknown = ", ".join(name for name in data.own_classes if name not in data.class_names)
    if unknown:
        n_unmapped = data.split_rows("test")[2]
        log.warning("The model lacks %s: such pictures are left out (test/n_unmapped = %d).", unknown, n_unmapped)


def _load_model(cfg: DictConfig) -> ExpressionClassifier:
    if cfg.ckpt_path is None:
        return _official_model(cfg)
    weights = load_weights(find_checkpoint(cfg.ckpt_path))
    for group, own in (("head", weights.spec.head), ("backbone", weights.spec.backbone)):
        chosen = cfg.get(group)
        if chosen is not None and chosen.name != own["name"]:
            raise ConfigError(
                f"{group}={chosen.name} does not fit ckpt_path={cfg.ckpt_path}, a model with "
                f"{group}={own['name']}; leave {group}= out, it comes from the checkpoint."
            )
    return build_from_weights(weights)


def _official_model(cfg: DictConfig) -> ExpressionClassifier:
    chosen, head = cfg.get("backbone"), cfg.get("head")
    if chosen is None or head is None or head.name != "emonet" or not chosen.class_names:
        raise ConfigError(
            "there is no model to test: set ckpt_path to a run directory, a .ckpt or a .safetensors, or use official "
            "weights with backbone=emonet_8 head=emonet."
        )
    backbone = plain(chosen)
    spec = new_spec(
        backbone,
        {**plain(head), "valence_arousal": True},
        canonical_order(backbone["class_names"]),
        image_size=backbone["image_size"],
        grayscale=False,
        outputs=("expression", "valence_arousal", "landmarks"),
        trained_on="AffectNet, by the authors of EmoNet",
        precision="auto",
    )
    return build_model(spec, backbone)


def _take_data_from_run(cfg: DictConfig) -> None:
    """Without `data=`, test on the data set of the run directory: its name chooses a file of ours, values follow."""
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
