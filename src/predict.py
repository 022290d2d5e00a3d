"""`python -m src.predict`: faces, expressions, valence and arousal of images, videos and cameras."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="predict")
def main(cfg: DictConfig) -> float | None:
    """Predict `input=`."""
    return run_job(cfg, "src.engine.predict:predict")


if __name__ == "__main__":
    start(main)
