"""`python -m src.app`: a page on this computer that shows what models see in pictures, videos and a camera."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.extras import require_extra
from src.utils.resolvers import register_resolvers
from src.utils.validation import validate_config

register_resolvers()


def app(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C.

    Args:
        cfg: Configuration of `conf/app.yaml`.

    Raises:
        ConfigError: If the extra is not installed, or as in `src.web.server`.
    """
    validate_config(cfg)
    require_extra("app", "gradio")
    require_extra("explain", "pytorch_grad_cam")
    # Imported here so that --help and a wrong option do not wait for torch.
    from src.web.server import serve

    serve(cfg)


@hydra.main(version_base="1.3", config_path="../conf", config_name="app")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, app)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
