from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from src.cli.validation import RULES, validate_config
from src.utils.paths import ROOT
from tests.helpers.running import compose_config

CONF = ROOT / "conf"
# wandb_sweep.yaml is Weights & Biases' own, see test_wandb_run.py.
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.name != "wandb_sweep.yaml")
OPTIONS = [p for p in FILES if len(p.parts) == 2 and p.parts[0] != "local"]
ENTRY_POINTS = [p.stem for p in FILES if len(p.parts) == 1 and p.stem != "run"]
TRAIN_GROUPS = {"data", "backbone", "head", "optimizer", "scheduler", "loss", "transform", "trainer"}
TRAIN_GROUPS |= {"logger", "callbacks", "sweep"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_compose(tmp_path, name):
    cfg = compose_config(name, f"run_dir={tmp_path}")
    OmegaConf.to_container(cfg, resolve=True)
    validate_config(cfg)


@pytest.mark.parametrize("path", OPTIONS, ids=str)
def test_every_option_composes(tmp_path, path):
    group, option = path.parts[0], path.stem
    assert group in TRAIN_GROUPS | {"experiment", "hydra"}, f"conf/{group} is not part of train.yaml"
    if option == "default" and "name: ???" in (CONF / path).read_text():
        return  # the base of a group, composed with each of its members
    cfg = compose_config("train", f"{group}={option}", f"run_dir={tmp_path}")
    OmegaConf.to_container(cfg, resolve=True)
    validate_config(cfg)


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_targets_exist_and_are_of_known_packages(path):
    for target in targets(yaml.safe_load((CONF / path).read_text())):
        assert target.split(".")[0] in ("src", "torch", "pytorch_lightning"), target
        try:
            get_class(target)
        except ValueError:
            get_method(target)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_keys_are_commented(path):
    """The first line says what a file is; keys of groups that users set are commented where they are defined."""
    lines = (CONF / path).read_text().splitlines()
    assert lines[0].startswith("#"), path


def test_rules_name_keys_that_exist():
    text = "\n".join((CONF / path).read_text() for path in FILES)
    for key in RULES:
        assert f"{key.split('.')[-1]}:" in text, key


def test_group_files_are_named_after_what_they_hold():
    for path in OPTIONS:
        if path.parts[0] in ("data", "head", "backbone", "transform") and path.stem != "default":
            assert yaml.safe_load((CONF / path).read_text())["name"] == path.stem


def test_experiments_hold_deltas_only():
    for path in (CONF / "experiment").glob("*.yaml"):
        assert "# @package _global_" in Path(path).read_text().splitlines()[0]
