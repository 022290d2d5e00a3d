"""`python -m src.release`: turn a run into weights to pass on, and write their card."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def release(cfg: DictConfig) -> None:
    """Write weights or their card.

    Args:
        cfg: Configuration of `conf/release.yaml`.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.releasing.release import release as write

    write(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="release")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, release)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
