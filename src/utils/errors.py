"""The one error that tells a user what to change; entry points print it without a traceback."""

from __future__ import annotations


class ConfigError(ValueError):
    """A user's mistake: the message names the argument, its value, what was expected and the remedy."""
