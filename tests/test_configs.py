import re
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from src.cli.validation import CHOICES, MODES, RULES, validate_config
from src.utils.paths import ROOT
from tests.helpers.running import compose_config

CONF = ROOT / "conf"
# wandb_sweep.yaml is Weights & Biases' own, see test_wandb_run.py.
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.name != "wandb_sweep.yaml")
OPTIONS = [p for p in FILES if len(p.parts) == 2 and p.parts[0] != "local"]
ENTRY_POINTS = [p.stem for p in FILES if len(p.parts) == 1 and p.stem not in ("run", "faces")]
TRAIN_GROUPS = {"data", "backbone", "head", "optimizer", "scheduler", "loss", "transform", "trainer"}
TRAIN_GROUPS |= {"logger", "callbacks", "sweep"}
# Groups whose files define nothing: they change what others define.
DELTAS = ("experiment", "sweep")


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_compose(tmp_path, name):
    cfg = compose_config(name, f"run_dir={tmp_path}")
    OmegaConf.to_container(cfg, resolve=True)
    validate_config(cfg)


def combinations():
    """Return every option of conf/train.yaml: one of each group at once, experiments alone."""
    by_group = {}
    for path in OPTIONS:
        # Without a name, it is the base of a group, composed with each of its members.
        if path.stem != "default" or "name: ???" not in (CONF / path).read_text():
            by_group.setdefault(path.parts[0], []).append(f"{path.parts[0]}={path.stem}")
    alone = [[option] for group in sorted(by_group.keys() - TRAIN_GROUPS) for option in by_group.pop(group)]
    return [*alone, *([option for option in options if option] for options in zip_longest(*by_group.values()))]


@pytest.mark.parametrize("options", combinations(), ids=" ".join)
def test_every_option_composes(tmp_path, options):
    cfg = compose_config("train", *options, f"run_dir={tmp_path}")
    OmegaConf.to_container(cfg, resolve=True)
    validate_config(cfg)


def test_every_group_is_part_of_a_training():
    assert {path.parts[0] for path in OPTIONS} == TRAIN_GROUPS | {"experiment"}


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_targets_exist_and_are_of_known_packages(path):
    for target in targets(yaml.safe_load((CONF / path).read_text())):
        assert target.split(".")[0] in ("src", "torch", "pytorch_lightning", "hydra_plugins"), target
        try:
            get_class(target)
        except ValueError:
            get_method(target)


# What needs no comment: what a file is, and of what class.
PLAIN = ("_target_", "_partial_", "name", "task")


def key_nodes(node, path=()):
    """Yield the keys of a YAML mapping and those below it: path, line counted from 0, and value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line, value
            yield from key_nodes(value, (*path, key.value))


def defines(path, value):
    """Whether a key is one that users set: no namespace, no link to another key, nothing of Hydra's own."""
    if path[0] in ("defaults", "hydra") or path[-1] in PLAIN:
        return False
    if isinstance(value, yaml.MappingNode):
        return any(key.value == "_target_" for key, _ in value.value)
    return not value.value.startswith("${") if isinstance(value, yaml.ScalarNode) else True


def is_commented(lines, line, name):
    """Whether a key has a comment beside or right above it, or is named in the one above the keys it belongs to.

    That of the file, which it begins with, is of a key only if it names it.
    """
    if " # " in lines[line]:
        return True
    above = lines[:line]
    while above and above[-1].strip() and not above[-1].lstrip().startswith("#"):
        above.pop()
    is_right_above, comment = len(above) == line, []
    while above and above[-1].lstrip().startswith("#"):
        comment.append(above.pop())
    if is_right_above and comment and above:
        return True
    return re.search(rf"\b{re.escape(name)}\b", " ".join(comment)) is not None


def keys_by_comment(text):
    """Return the keys that a file defines with a comment, and those without."""
    lines, found = text.splitlines(), {True: set(), False: set()}
    for path, line, value in key_nodes(yaml.compose(text)):
        if defines(path, value):
            found[is_commented(lines, line, path[-1])].add(path)
    return found[True], found[False]


def documented(path):
    """Return the keys with a comment in a file and in those of its group that it builds on."""
    text = (CONF / path).read_text()
    content = yaml.safe_load(text) or {}
    bases = [base for base in content.get("defaults", []) if isinstance(base, str) and len(path.parts) > 1]
    files = [path.with_name(f"{base}.yaml") for base in bases if (CONF / path).with_name(f"{base}.yaml").is_file()]
    return keys_by_comment(text)[0].union(*(documented(file) for file in files))


def undocumented(path):
    """Return the keys that neither a file nor what it builds on explains."""
    known = documented(path)
    if len(path.parts) == 1:
        known |= documented(Path("train.yaml"))  # whose keys mean the same elsewhere
    return keys_by_comment((CONF / path).read_text())[1] - known


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] not in DELTAS], ids=str)
def test_keys_are_commented(path):
    """The first line says what a file is; every key that users set is commented where it is defined."""
    if path.parts[-2:-1] != ("job_logging",) and path.parts[-2:-1] != ("hydra_logging",):  # of Python's logging
        assert not undocumented(path)
    assert (CONF / path).read_text().startswith("#")


def test_a_key_without_a_comment_is_noticed():
    text = (
        "# Head.\n_target_: a.B\n# Fraction of a.\nshare: 1\nrate: 2\n\nloose: 3\nbeside: 4 # It is.\nlink: ${seed}\n"
    )
    assert keys_by_comment(text) == ({("share",), ("beside",)}, {("rate",), ("loose",)})
    assert keys_by_comment("# Rates of a and b.\na: 1\nb: 2\nc: 3\n")[1] == {("c",)}
    assert keys_by_comment("# Head.\nshare: 1\n# Rate.\nrate: 2\n")[1] == {("share",)}
    assert keys_by_comment("# Group.\n\npart:\n  _target_: a.B\n  # Speed.\n  speed: 1\n")[1] == {("part",)}


def leaves(node, path=()):
    """Yield the keys of nested mappings with their values, those of mappings, too."""
    for key, value in node.items():
        yield ".".join((*path, str(key))), value
        if isinstance(value, dict):
            yield from leaves(value, (*path, str(key)))


@pytest.fixture(scope="module")
def known_keys(tmp_path_factory):
    """All keys of all entry points, and of train.yaml with every option of its groups."""
    run_dir = f"run_dir={tmp_path_factory.mktemp('keys')}"
    configs = [compose_config(name, run_dir) for name in ENTRY_POINTS]
    for options in combinations():
        chosen = [option for option in options if option.partition("=")[0] in TRAIN_GROUPS - {"sweep"}]
        configs += [compose_config("train", *chosen, run_dir)] if chosen else []
    return {key for cfg in configs for key, _ in leaves(OmegaConf.to_container(cfg, resolve=False))}


def test_rules_name_keys_that_exist(known_keys):
    checked = {*RULES, *CHOICES, *MODES}
    assert checked - known_keys == set()


def test_a_rule_for_a_key_of_another_group_is_noticed(known_keys):
    """Some key ends in each of these."""
    assert not {"optimizer.gamma", "data.lr", "head.gamma", "explain.precision", "patience"} & known_keys
    assert {"loss.gamma", "optimizer.lr", "trainer.precision", "scheduler.patience"} <= known_keys


# Older names, which add nothing to what they stand for.
ALIASES = {"experiment/seed_study.yaml": "student_baseline", "transform/seed_study.yaml": "student_baseline"}


@pytest.mark.parametrize("alias", ALIASES)
def test_older_names_are_those_of_today(tmp_path, alias):
    group, _, name = alias.removesuffix(".yaml").partition("/")
    older, today = (compose_config("train", f"{group}={n}", f"run_dir={tmp_path}") for n in (name, ALIASES[alias]))
    assert older == today


def test_group_files_are_named_after_what_they_hold():
    for path in OPTIONS:
        named = path.parts[0] in ("data", "head", "backbone", "transform") and path.stem != "default"
        if named and path.as_posix() not in ALIASES:
            assert yaml.safe_load((CONF / path).read_text())["name"] == path.stem


def repeated_or_unread(ours, usual, path=""):
    """Yield the keys of nested mappings that another one has alike, or lacks; an object of its own may be added."""
    for key, value in ours.items():
        if isinstance(value, dict) and "_target_" in value and key not in usual:
            continue
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            yield from repeated_or_unread(value, usual[key], f"{path}{key}.")
        elif key not in usual or value == usual[key]:
            yield f"{path}{key}"


def no_deltas(text, run_dir):
    """Return what an experiment, given as YAML, says that is so without it, and keys that nothing reads."""
    content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    overrides = [next(iter(choice.items())) for choice in content.pop("defaults", [])]
    choices = {group.removeprefix("override /"): option for group, option in overrides}
    compose_config("train", run_dir)
    usual = HydraConfig.get().runtime.choices
    found = [f"{group}={option}" for group, option in choices.items() if usual[group] == option]
    without = compose_config("train", *(f"{group}={option}" for group, option in choices.items()), run_dir)
    return found + list(repeated_or_unread(content, OmegaConf.to_container(without, resolve=False)))


EXPERIMENTS = [
    path for path in sorted((CONF / "experiment").glob("*.yaml")) if f"experiment/{path.name}" not in ALIASES
]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_hold_deltas_only(tmp_path, path):
    """What an experiment says differs from what is so without it, and every key of it is one that exists."""
    text = path.read_text()
    assert text.startswith("# @package _global_\n#")
    assert no_deltas(text, f"run_dir={tmp_path}") == []


def test_what_an_experiment_repeats_or_misspells_is_noticed(tmp_path):
    text = """
defaults: [{override /optimizer: adam}, {override /scheduler: one_cycle}]
seed: 1
test: true
scheduler: {warmup: 0.15}
trainer: {max_epochs: 7, max_epoch: 7}
callbacks:
  mine: {_target_: a.B, strength: 1}
  lr_monitor: {_target_: pytorch_lightning.callbacks.LearningRateMonitor, logging_interval: step}
"""
    expected = ["optimizer=adam", "test", "scheduler.warmup", "trainer.max_epoch"]
    repeated = ["callbacks.lr_monitor._target_", "callbacks.lr_monitor.logging_interval"]
    assert no_deltas(text, f"run_dir={tmp_path}") == expected + repeated
