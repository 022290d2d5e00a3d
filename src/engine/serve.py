"""Serves the demo on this computer alone, until it is stopped."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from omegaconf import DictConfig

from src.runs.hub import is_on_hub
from src.runs.layout import find_checkpoint
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from src.utils.signals import stop_requests
from src.web.room import Room, own_folder

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
# Files of the largest size that uploads and results may fill together, before the oldest go.
ROOM_FOR = 10
TIDY_SECONDS = 5.0
# Gradio reports its use, looks for updates and asks Hugging Face, unless told not to before it is imported.
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def serve(cfg: DictConfig) -> None:
    """Serve the demo until Ctrl-C.

    Args:
        cfg: Configuration of `conf/app.yaml`.

    Raises:
        ConfigError: If there is no model, or the port is taken.
    """
    models = _fetched(list(cfg.models))
    with own_folder() as folder, stop_requests.deferred():
        os.environ.update(OFFLINE, GRADIO_TEMP_DIR=str(folder))
        logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it runs
        from src.inference.quality import QualityLimits
        from src.web.analysis import Analyst
        from src.web.demo import STYLE, build_demo, theme
        from src.web.examples import make_examples
        from src.web.gate import MAX_MESSAGE, gates
        from src.web.health import health_route
        from src.web.models import ModelShelf

        log.info("Loading the model ...")
        shelf = ModelShelf(
            models,
            detector=cfg.detector,
            detector_path=cfg.detector_path,
            quality=QualityLimits(**cfg.quality),
            plugins=cfg.plugins,
        )
        demo = build_demo(Analyst(shelf, folder, cfg.max_seconds), make_examples(folder), cfg.max_mb)
        demo.queue(**cfg.queue)
        name, choice = next(iter(shelf.choices.items()))
        health = health_route(name, Path(choice.location))
        max_file = cfg.max_mb * 2**20
        room = Room(folder, ROOM_FOR * max(max_file, MAX_MESSAGE))
        try:
            demo.launch(
                server_name=ADDRESS,
                server_port=cfg.port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                footer_links=[],
                run_history=False,
                max_file_size=max_file,
                # Gradio serves what lies in its temporary folder, and nothing of the project.
                allowed_paths=[],
                blocked_paths=[str(ROOT)],
                app_kwargs={"middleware": gates(room, max_file), "openapi_url": None, "routes": [health]},
                theme=theme(),
                css_paths=STYLE,
            )
        except OSError as error:
            raise ConfigError(
                f"port={cfg.port} cannot be used ({error}); choose another port, or port=null for a free one."
            ) from error
        due = 0.0
        log.info("Open %s in a browser; stop with Ctrl-C.", demo.local_url)
        try:
            while not stop_requests.take():
                if time.monotonic() > due:
                    room.tidy()
                    due = time.monotonic() + TIDY_SECONDS
                time.sleep(0.2)
        finally:
            demo.close(verbose=False)
        log.info("Stopped.")


def _fetched(models: list[str]) -> list[str]:
    """Return the models with those of the Hugging Face Hub as files.

    Another process fetches them: this one stays offline, which huggingface_hub looks up when it is imported.
    """
    if not any(map(is_on_hub, models)):
        return models
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        fetch = partial(find_checkpoint, argument="models")
        return [str(pool.submit(fetch, model).result()) if is_on_hub(model) else model for model in models]
