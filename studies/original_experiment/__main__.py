"""`python -m studies.original_experiment`: write the page about the runs of `make original`."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../../conf", config_name="original_experiment")
def main(cfg: DictConfig) -> float | None:
    """Write the page."""
    return run_job(cfg, "studies.original_experiment.page:write_experiment")


if __name__ == "__main__":
    start(main)
