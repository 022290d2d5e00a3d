"""`python -m src.prepare`: build the packed store of a data set, print and write its audit."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
def main(cfg: DictConfig) -> float | None:
    """Pack `data=`."""
    return run_job(cfg, "src.engine.prepare:prepare")


if __name__ == "__main__":
    start(main)
