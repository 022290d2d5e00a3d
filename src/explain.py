"""`python -m src.explain`: panels of where a model looks, and how good they are."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.extras import require_extra
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def explain(cfg: DictConfig) -> None:
    """Explain a model.

    Args:
        cfg: Configuration of `conf/explain.yaml`.
    """
    validate_config(cfg)
    require_extra("explain", "captum", "pytorch_grad_cam")
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.explanation.report import explain_model

    explain_model(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="explain")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, explain)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
