"""Packages that come with an extra of ours."""

from __future__ import annotations

from importlib.util import find_spec

from src.utils.errors import ConfigError

# What has to be importable, by the extras of `pyproject.toml`.
EXTRAS = {
    "app": ("gradio",),
    "download": ("kagglehub", "pooch"),
    "explain": ("captum",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "tensorboard": ("tensorboard",),
    "parquet": ("pyarrow",),
    "hub": ("huggingface_hub",),
}


def require_extra(extra: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: Its name in `pyproject.toml`.

    Raises:
        ConfigError: If a module is not installed.
    """
    missing = [module for module in EXTRAS[extra] if find_spec(module) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is not installed; install the extra: pip install -e '.[{extra}]'.")
