"""Packages that come with an extra of ours."""

from __future__ import annotations

from importlib.util import find_spec

from src.utils.errors import ConfigError


def require_extra(extra: str, *modules: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: Its name in `pyproject.toml`.
        *modules: What has to be importable.

    Raises:
        ConfigError: If a module is not installed.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is not installed; install the extra: pip install -e '.[{extra}]'.")
