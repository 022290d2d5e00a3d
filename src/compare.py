"""`python -m src.compare`: a leaderboard over run directories, with paired tests and a page."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def compare(cfg: DictConfig) -> None:
    """Compare runs; print the leaderboard, write it as CSV and as a page.

    Args:
        cfg: Configuration of `conf/compare.yaml`.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.comparison.compare import compare_runs

    compare_runs(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, compare)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
