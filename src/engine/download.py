"""A data set, or weights, from where they are published to where the other commands look for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from src.data.download.sources import choices
from src.data.download.web import fetch_file
from src.engine.build import build_data
from src.models.origin import LICENSES, NO_DERIVATIVES
from src.utils.checksums import has_checksum
from src.utils.errors import ConfigError
from src.utils.locks import alone

log = logging.getLogger(__name__)

NO_DERIVATIVES_TEXT = "https://creativecommons.org/licenses/by-nc-nd/4.0/"


def download(cfg: DictConfig) -> None:
    """Fetch what is not there, and say whose it is and what may be done with it.

    Args:
        cfg: Configuration of `conf/download.yaml`.

    Raises:
        ConfigError: If nothing is named, or it cannot be fetched.
    """
    # At its lowest level it logs the addresses of redirects, which hold tokens.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    if cfg.get("data") is None and cfg.get("backbone") is None:
        raise ConfigError("nothing is to be fetched: say what, such as data=fer2013 or backbone=emonet_8.")
    if cfg.get("data") is not None:
        _data(cfg)
    if cfg.get("backbone") is not None:
        _weights(cfg)
    log.info("Run directory: %s", cfg.run_dir)


def _data(cfg: DictConfig) -> None:
    data = build_data(cfg)
    name = data.name
    if cfg.data.path:
        raise ConfigError(
            f"data.path={cfg.data.path} names data that are there; leave it out. What is fetched goes to "
            f"{Path(cfg.data_dir) / 'raw'}; choose another folder by data_dir=..."
        )
    if not data.downloads:
        raise ConfigError(f"data={name} has nothing to be fetched; it takes {data.source_hint}.")
    known = choices(data.downloads)
    if cfg.source is not None and cfg.source not in known:
        expected = f"one of {', '.join(known)}" if known else "none, as there is no choice"
        raise ConfigError(f"source={cfg.source} is no source of data={name}; expected {expected}.")
    raw = Path(cfg.data_dir) / "raw"
    with _naming(raw):
        for part in data.downloads:
            part.fetch(raw, cfg.source)
    log.info("data=%s is ready. Look at it first: python -m src.prepare data=%s", name, name)


def _weights(cfg: DictConfig) -> None:
    chosen = cfg.backbone
    if chosen.url is None or chosen.weights is None:
        found = f"its weights are {chosen.weights}" if chosen.weights else "it starts from no weights"
        raise ConfigError(f"backbone={chosen.name} has nothing to be fetched (backbone.url={chosen.url}): {found}.")
    if chosen.blob_id is None and chosen.sha256 is None:
        raise ConfigError(
            f"backbone.url={chosen.url} without a checksum, by which a whole file is told; expected backbone.sha256 or "
            "backbone.blob_id of it. Set one of them."
        )
    path = Path(chosen.weights).expanduser()
    if path.suffix == ".pth":  # the format of EmoNet's authors
        log.info("%s\n  License: %s\n  %s", path.name, LICENSES[NO_DERIVATIVES], NO_DERIVATIVES_TEXT)
        if not cfg.accept_license:
            raise ConfigError("accept_license=false: if you accept the license above, set accept_license=true.")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"sha256": chosen.sha256} if chosen.sha256 else {"blob_id": chosen.blob_id}
    with (
        _naming(path.parent),
        alone(path.with_name(f".{path.name}.lock"), f"Another process is downloading {path}; waiting for it."),
    ):
        if not path.is_file():
            fetch_file(chosen.url, path, chosen.url, **known)
            log.info("%s is there now.", path)
        elif has_checksum(path, **known):
            log.info("%s is there already.", path)
        else:
            raise ConfigError(f"{path} is there, but is not the published file ({known}). Move it away, and try again.")


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Let an error of the disk say where it happened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
