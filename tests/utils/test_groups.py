"""Tests of our own configuration files, read by name, against what Hydra composes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.utils.errors import ConfigError
from src.utils.groups import CONF, load_group
from tests.helpers.running import compose_config

OPTIONS = [
    (group, path.stem)
    for group in ("data", "backbone", "head", "transform")
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem != "default"
]


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_a_file_is_read_as_hydra_composes_it(tmp_path: Path, group: str, name: str) -> None:
    cfg = compose_config("train", f"{group}={name}", f"run_dir={tmp_path}")
    assert load_group(group, name) == OmegaConf.to_container(cfg[group], resolve=False)


@pytest.mark.parametrize("name", ["default", "nowhere", "../head/linear", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data='.*' is unknown; expected one of affectnet, .*synthetic"):
        load_group("data", name)
