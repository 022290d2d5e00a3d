"""Configurations of runs. A run may be a stranger's: its values are taken, code is not, and nothing is computed."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from src.runs import layout
from src.runs.records import Config
from src.utils.errors import ConfigError
from src.utils.schemas import checked, read_text

# A run's configuration has 10 KB and 6 levels.
MAX_BYTES, MAX_DEPTH = 2**18, 32
REMEDY = "Repeat that run, or leave it out."


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the content of `config.yaml` as it stands there, {} if there is none; interpolations stay text.

    Raises:
        ConfigError: If it is broken, or not as a run writes it.
    """
    file = run_dir / layout.CONFIG
    try:
        text = read_text(file, MAX_BYTES)
        _check_events(text)
        content = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except FileNotFoundError:
        return {}
    # OmegaConf and YAML's reader raise what comes along on texts that are neither.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{file} is broken: {reason}. {REMEDY}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file} is broken: {str(error).splitlines()[0]}. {REMEDY}") from None
    return dict(checked(Config, content, file, REMEDY))


def _check_events(text: str) -> None:
    """Raise ValueError for what a run never writes: aliases, a few of which make any number of values, and depth."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, AliasEvent):
            raise ValueError("it has aliases")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")


def is_plain(value: Any, targets: Collection[str] = ()) -> bool:
    """Whether a value can neither name code nor compute anything.

    Args:
        value: Text without `${`, a number, a truth value, None, or lists and mappings of these. Keys that begin with an
            underscore are Hydra's, which calls what they name.
        targets: What `_target_` may name nevertheless.
    """
    if isinstance(value, dict):
        return all(_is_allowed(key, entry, targets) and is_plain(entry, targets) for key, entry in value.items())
    if isinstance(value, list):
        return all(is_plain(entry, targets) for entry in value)
    return "${" not in value if isinstance(value, str) else value is None or isinstance(value, int | float)


def _is_allowed(key: object, entry: object, targets: Collection[str]) -> bool:
    return not str(key).startswith("_") or (key == "_target_" and entry in targets)
