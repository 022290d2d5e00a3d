"""`python -m src.train`: fit a model, test its best checkpoint, write the run directory."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def train(cfg: DictConfig) -> float:
    """Fit and test.

    Args:
        cfg: Configuration of `conf/train.yaml`.

    Returns:
        The monitored metric of the best epoch on the validation split.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.training import fit_and_test

    results = fit_and_test(cfg)
    return float(results.get(cfg.monitor, float("nan")))  # type: ignore[arg-type]  # only intervals are lists


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, train)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
