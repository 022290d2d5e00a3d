"""Our own configuration files, read by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from src.utils.errors import ConfigError
from src.utils.paths import ROOT

CONF = ROOT / "conf"


def load_group(group: str, name: str) -> dict[str, Any]:
    """Return one of our own configuration files, with what its defaults name, and nothing resolved.

    Checkpoints and run directories name files of `conf/`; what to build is read from there, never from them.

    Raises:
        ConfigError: If there is no such file.
    """
    path = CONF / group / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or name == "default" or not path.is_file():
        known = ", ".join(sorted(p.stem for p in (CONF / group).glob("*.yaml") if p.stem != "default"))
        raise ConfigError(f"{group}={name!r} is unknown; expected one of {known}.")
    return _with_defaults(path)


def _with_defaults(path: Path) -> dict[str, Any]:
    """Return a file over those of its group that it builds on."""
    content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    bases = [_with_defaults(path.with_name(f"{base}.yaml")) for base in content.pop("defaults", [])]
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(*bases, content), resolve=False))
