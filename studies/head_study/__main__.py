"""`python -m studies.head_study`: write the page about the runs of `make study`."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../../conf", config_name="study")
def main(cfg: DictConfig) -> float | None:
    """Write the page."""
    return run_job(cfg, "studies.head_study.page:write_study")


if __name__ == "__main__":
    start(main)
