"""What is checked of a command line before Hydra reads it: plugins, and file names that its grammar refuses."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from src.cli.hydra_plugins import require_plugins
from src.data.options import SOURCES
from src.utils.paths import ROOT

# Options that are files.
PATHS = (
    *("input", "ckpt_path", "detector_path", "data_dir", "backbone.weights", "runs"),
    *(f"data.{key}" for key in SOURCES),
    *("hydra.run.dir", "hydra.sweep.dir", "parts_dir"),
)


def check_command_line(arguments: Sequence[str]) -> None:
    """End with a message if an option needs a missing plugin, has none of its values, or is a file name to be quoted.

    Args:
        arguments: The command line.
    """
    require_plugins(arguments)
    for argument in arguments:
        group, _, value = argument.partition("=")
        if group and value == "null" and (ROOT / "conf" / group).is_dir():
            choices = ", ".join(sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")))
            print(f"Error: {argument} is no choice; expected one of {choices}. Or leave it out.", file=sys.stderr)
            sys.exit(1)
        better = quoted(argument)
        if better is not None:
            print(
                f"Error: Hydra cannot read the file name in {argument} as it is (blanks, =, commas, brackets, quotes, "
                f"accents and a leading ~ are part of its grammar). Type it so: {better}",
                file=sys.stderr,
            )
            sys.exit(1)


def quoted(argument: str) -> str | None:
    """Return the form of `key=file` that shells and Hydra read as the file, or None if it is right as it is.

    What Hydra reads as something else than a name, such as a list, is right unless there is a file of that name.
    """
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in PATHS:
        return None
    exists = value != "" and Path(os.path.expanduser(value)).exists()
    try:
        read = OverridesParser.create().parse_override(argument)
    except HydraException:
        is_list = value.startswith("[") and value.endswith("]") and not exists
        names = value[1:-1].split(",") if is_list else [value]
        listed = ",".join(_quoted(name.strip()) for name in names)
        return shlex.quote(f"{key}=[{listed}]" if is_list else f"{key}={listed}")
    is_name = not read.is_sweep_override() and str(read.value()) == value and "${" not in value
    return shlex.quote(f"{key}={_quoted(value)}") if exists and not is_name else None


def _quoted(name: str) -> str:
    """Return a name in Hydra's quotes, within which quotes, backslashes before them and interpolations are escaped."""
    inner = name[1:-1] if len(name) > 1 and name[0] in "\"'" and name[0] == name[-1] else name
    escaped = inner.replace('\\"', '\\\\"').replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}\\"' if escaped.endswith("\\") else f'"{escaped}"'
