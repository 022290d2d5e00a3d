"""`python -m src.eval`: test a trained model on any data set."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def evaluate(cfg: DictConfig) -> float:
    """Test a model.

    Args:
        cfg: Configuration of `conf/eval.yaml`.

    Returns:
        The accuracy.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.evaluation import test

    return float(test(cfg).get(f"{cfg.split}/accuracy", float("nan")))  # type: ignore[arg-type]  # only intervals are lists


@hydra.main(version_base="1.3", config_path="../conf", config_name="eval")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, evaluate)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
