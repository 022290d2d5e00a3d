"""Hydra's plugins, which come with an extra."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

# Beginning of an option -> package that it needs.
PLUGINS = {
    "hydra/launcher=joblib": "hydra_joblib_launcher",
    "hydra/launcher=slurm": "hydra_submitit_launcher",
    "hydra/launcher=submitit": "hydra_submitit_launcher",
    "hydra/sweeper=optuna": "hydra_optuna_sweeper",
    "sweep=": "hydra_optuna_sweeper",
}


def require_plugins(arguments: Sequence[str]) -> None:
    """End with a message if an option needs a plugin that is not installed; Hydra would only say what it has.

    Args:
        arguments: The command line.
    """
    for argument in arguments:
        for option, package in PLUGINS.items():
            if argument.startswith(option) and not _is_installed(f"hydra_plugins.{package}"):
                print(
                    f"Error: {argument} needs {package.replace('_', '-')}, which is not installed; install the extra "
                    "for sweeps: pip install -e '.[sweep]'.",
                    file=sys.stderr,
                )
                sys.exit(1)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
