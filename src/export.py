"""`python -m src.export`: write a trained model as ONNX files and compare them with PyTorch."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.extras import require_extra
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def export_model(cfg: DictConfig) -> None:
    """Export a model.

    Args:
        cfg: Configuration of `conf/export.yaml`.

    Raises:
        ConfigError: If the extra is not installed, or as in `src.exporting.export`.
    """
    validate_config(cfg)
    require_extra("export", "onnx", "onnxruntime", "onnxscript")
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.exporting.export import export

    export(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, export_model)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
