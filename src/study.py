"""`python -m src.study`: write the page about the runs of `make study`."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def study(cfg: DictConfig) -> None:
    """Write the page.

    Args:
        cfg: Configuration of `conf/study.yaml`.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.studying.study import write_study

    write_study(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="study")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, study)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
