"""Configurations of runs that take seconds: a tiny EmoNet on a few synthetic faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from src.cli.resolvers import register_resolvers
from src.utils.paths import ROOT

TINY_DATA = ["data.n_train=26", "data.n_val=14", "data.n_test=21", "data.batch_size=8"]
# Drawing takes twice as long as the rest of a tiny run.
NO_FIGURES = [f"callbacks.test_table.writers.{name}=null" for name in ("confusion_matrix", "precision_recall")]
TINY = [
    *TINY_DATA,
    "backbone=emonet_tiny",
    "backbone.width=16",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "logger=none",
    *NO_FIGURES,
    "callbacks.gradcam=null",
    "callbacks.learning_curves=null",
]


def compose_config(name: str, *overrides: str) -> DictConfig:
    """Compose a configuration as the entry point `name` would."""
    register_resolvers()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        cfg = compose(name, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def tiny_config(run_dir: Path, data_dir: Path, *overrides: str, figures: bool = False) -> DictConfig:
    """Compose a training of seconds, which draws nothing unless told."""
    run_dir.mkdir(parents=True, exist_ok=True)
    keys = {override.split("=")[0].lstrip("~") for override in overrides}
    if "data" in keys:
        keys.update(option.split("=")[0] for option in TINY_DATA)
    if "experiment" in keys:  # it chooses its backbone
        keys.add("backbone")
    tiny = [option for option in TINY if option.split("=")[0] not in keys]
    if figures:
        tiny = [option for option in tiny if not option.startswith("callbacks.")]
    return compose_config("train", *tiny, f"run_dir={run_dir}", f"data_dir={data_dir}", *overrides)


def read_checkpoint(run_dir: Path, name: str = "last") -> dict[str, Any]:
    """Read a checkpoint of a run, which must hold no code."""
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)  # type: ignore[no-any-return]
