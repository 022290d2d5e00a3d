"""`python -m src.predict`: faces, expressions, valence and arousal of pictures, videos and cameras."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def predict(cfg: DictConfig) -> None:
    """Predict `input=`.

    Args:
        cfg: Configuration of `conf/predict.yaml`.
    """
    validate_config(cfg)
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.inference.run import predict as run

    run(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="predict")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, predict)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
