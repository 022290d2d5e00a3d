"""`python -m src.export`: write a trained model as ONNX files and compare them with PyTorch."""

import hydra
from omegaconf import DictConfig

from src.cli.job import run_job, start


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> float | None:
    """Export a model."""
    return run_job(cfg, "src.engine.export:export", extras=("export",))


if __name__ == "__main__":
    start(main)
