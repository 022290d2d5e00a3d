"""Our own configuration files, read by name."""

from __future__ import annotations

import re
from typing import Any, cast

from omegaconf import OmegaConf

from src.utils.errors import ConfigError
from src.utils.paths import ROOT

CONF = ROOT / "conf"


def load_group(group: str, name: str) -> dict[str, Any]:
    """Return one of our own configuration files, with the defaults of its group.

    Checkpoints and run directories name files of `conf/`; what to build is read from there, never from them.

    Raises:
        ConfigError: If there is no such file.
    """
    path = CONF / group / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or name == "default" or not path.is_file():
        known = ", ".join(sorted(p.stem for p in (CONF / group).glob("*.yaml") if p.stem != "default"))
        raise ConfigError(f"{group}={name!r} is unknown; expected one of {known}.")
    loaded = OmegaConf.load(path)
    base = CONF / group / "default.yaml"
    if base.is_file() and path != base:
        loaded = OmegaConf.merge(OmegaConf.load(base), loaded)
    return cast(dict[str, Any], OmegaConf.to_container(loaded, resolve=False))
