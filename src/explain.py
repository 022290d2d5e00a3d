"""`python -m src.explain`: panels of where a model looks, and how good they are."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="explain")
def main(cfg: DictConfig) -> float | None:
    """Explain a model."""
    return run_job(cfg, "src.engine.explain:explain_model", extras=("explain",))


if __name__ == "__main__":
    start(main)
