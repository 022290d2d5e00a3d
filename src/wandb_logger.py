"""Weights & Biases: online when it can, offline otherwise, never in the way."""

from __future__ import annotations

import logging
import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import WandbLogger

from src.utils.processes import is_main_process
from src.utils.run_directory import read_json, update_provenance

log = logging.getLogger(__name__)


class RunLogger(WandbLogger):
    """Lightning's logger, which also knows whether pictures of people may be uploaded.

    Attributes:
        log_images: Whether they may.
    """

    def __init__(self, run: Any, save_dir: str, log_images: bool) -> None:
        """Create the logger.

        Args:
            run: A started run of wandb.
            save_dir: Run directory.
            log_images: Whether pictures of people may be uploaded.
        """
        super().__init__(experiment=run, save_dir=save_dir)
        self.log_images = log_images


def open_wandb(
    project: str,
    entity: str | None,
    group: str | None,
    save_dir: str,
    tags: list[str],
    log_images: bool,
    timeout: float,
) -> RunLogger | None:
    """Start a run; one that resumes in its own directory keeps its id.

    Args:
        project: Project of the run.
        entity: User or team, None for the default.
        group: Group of the run, the sweep's name.
        save_dir: Run directory; wandb's files go below it.
        tags: Tags.
        log_images: Whether pictures of people may be uploaded.
        timeout: Seconds to wait for the server.

    Returns:
        The logger, or None in processes other than the main one.
    """
    if not is_main_process():
        return None
    options: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "group": group,
        "dir": save_dir,
        "name": Path(save_dir).name,
        "tags": list(tags),
        "id": read_json(Path(save_dir) / "provenance.json").get("wandb_id"),
        "resume": "allow",
        "reinit": "finish_previous",
    }
    run = _start(options, wandb_mode(), timeout)
    update_provenance(Path(save_dir), wandb_id=run.id)
    return RunLogger(run, save_dir, log_images)


def wandb_mode() -> Any:
    """Return `WANDB_MODE` if it is set, else `online` when wandb finds a key, else `offline`."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    """Look for a key where wandb does, without asking its server, which may not answer."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(wandb.setup().settings.base_url).hostname or ""
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc(Path(path).expanduser()).authenticators(host):
                return True
        except (OSError, NetrcParseError):
            continue
    return False


def _start(options: dict[str, Any], mode: Any, timeout: float) -> Any:
    quiet = {"silent": True, "console": "off"}
    if mode == "online":
        try:
            return wandb.init(mode="online", settings=wandb.Settings(init_timeout=timeout, **quiet), **options)
        except wandb.Error as error:
            reason = str(error).split("\n")[0]
            log.warning("Weights & Biases does not answer (%s): this run is recorded offline.", reason)
    options = {key: value for key, value in options.items() if key != "resume"}
    return wandb.init(mode="offline" if mode == "online" else mode, settings=wandb.Settings(**quiet), **options)


def finish_wandb(failed: bool) -> None:
    """Close the current run, if any; without this the next job of a sweep would write into it."""
    if wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def closing_lines(run: Any) -> list[str]:
    """Return how to look at a run: its address, or how to sync it and how to see it without an account."""
    if run.disabled:
        return []
    if not run.offline:
        return [f"Weights & Biases: {run.url}"]
    folder = Path(run.dir).parent
    return [
        f"Weights & Biases (offline): wandb sync {folder}",
        f"  without an account:       wandb leet run {folder}",
    ]
