"""`python -m src.app`: a demo on this computer that shows what models see in images, videos and a camera."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
def main(cfg: DictConfig) -> float | None:
    """Serve the demo until Ctrl-C."""
    return run_job(cfg, "src.engine.serve:serve", extras=("app", "explain"))


if __name__ == "__main__":
    start(main)
