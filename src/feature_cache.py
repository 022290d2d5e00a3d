"""What a frozen backbone makes of a data set, computed once and kept, so that heads train without it."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from rich.progress import track
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.data.feature_store import FORMAT, FeatureStore, View
from src.models.classifier import ExpressionClassifier
from src.models.emonet import Tap, tap_side
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

Compute = Callable[[NDArray[np.int64], View], Tensor]
# Features are kept in the precision in which the head would get them; of float32 the nearest half is taken.
DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float16}
# Pictures in a batch at 64 px; fewer at larger sides.
BATCH = 256
# What a kill may cost.
COMMIT_SECONDS = 10.0
# Room that a cache leaves on the disk: for checkpoints, and for others.
SPARE_BYTES = 2**30


@dataclass(frozen=True)
class Missing:
    """Pictures of one view that have no features yet."""

    view: View
    rows: NDArray[np.int64]


def serve_features(cfg: DictConfig, model: ExpressionClassifier, data: StoreDataModule, trainer: Trainer) -> None:
    """Let the data module serve features instead of pictures, if `cache` asks for it; compute those that are missing.

    Args:
        cfg: Configuration of `conf/train.yaml`.
        model: The model to train.
        data: Its data.
        trainer: The trainer, whose device and precision count.

    Raises:
        ConfigError: If `cache=true` cannot be had, or the disk is full.
    """
    if cfg.cache is False:
        return
    obstacle = _obstacle(model, data, str(trainer.precision))
    if obstacle is None:
        store, description = _open(model, data, str(trainer.precision))
        missing = _missing(store, data, test=cfg.test)
        obstacle = _too_large(store, missing, insist=cfg.cache is True)
        if obstacle is None and cfg.cache == "auto" and missing and not _pays(cfg, data):
            return
    if obstacle is None:
        if missing:
            _announce(store, missing)
            compute = _compute(model, data, trainer)
            batch_size = max(1, BATCH * 64**2 // data.image_size**2)
            with store.locked(description):
                for part in _missing(store, data, test=cfg.test):  # another process may have been faster
                    _fill(store, part, compute, batch_size, show=cfg.trainer.enable_progress_bar)
        log.info("Features of the frozen backbone: %s", store.path)
        data.features = store
    elif cfg.cache is True:
        raise ConfigError(f"cache=true, but {obstacle}")
    elif model.frozen_tap is not None:
        log.info("The backbone is frozen, but its features are not cached: %s", obstacle)


def _obstacle(model: ExpressionClassifier, data: StoreDataModule, precision: str) -> str | None:
    """Return why features cannot stand in for pictures, with the remedy; None if they can."""
    if model.frozen_tap is None:
        return "the backbone is trained: its features change. Set backbone.freeze=all or fused, or cache=false."
    if not data.transform.only_mirrors:
        return (
            f"transform={data.transform.name} gives every epoch other pictures. Set transform=none or flip, or "
            "cache=false."
        )
    if precision not in DTYPES:
        return f"trainer.precision={precision} is not kept in half precision. Set cache=false, or another precision."
    return None


def _open(model: ExpressionClassifier, data: StoreDataModule, precision: str) -> tuple[FeatureStore, dict[str, Any]]:
    """Return the store of all that determines the features, and its description."""
    tap, width, backbone = _tap(model), model.backbone.width, model.backbone
    side = tap_side(tap, data.image_size, backbone.n_blocks)
    shape = (width,) if tap == "pooled" else (width, side, side)
    # What is trained after the tap has no part in the features.
    frozen = {k: v for k, v in backbone.state_dict().items() if tap != "fused" or not k.startswith("emo_net_2.")}
    description = {
        "format": FORMAT,
        "data": data.fingerprint,
        "backbone": model.spec.backbone["name"],
        "weights": weights_digest(frozen),
        "normalize": model.spec.normalize,
        "image_size": data.image_size,
        "grayscale": data.grayscale,
        "tap": tap,
        "shape": list(shape),
        "precision": precision,
        "dtype": str(DTYPES[precision]).removeprefix("torch."),
    }
    text = json.dumps({key: value for key, value in description.items() if key != "backbone"}, sort_keys=True)
    name = f"{data.name}-{tap}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
    folder = data.cache_dir / "features" / name
    return FeatureStore(folder, len(data.store), shape, DTYPES[precision]), description


def _tap(model: ExpressionClassifier) -> Tap:
    """Return the tap whose features are kept; a run that trains the whole backbone keeps none."""
    return model.frozen_tap or model.head.tap


def weights_digest(state: Mapping[str, Any]) -> str:
    """Return a hash of names, kinds and values of a state dict."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _missing(store: FeatureStore, data: StoreDataModule, test: bool) -> list[Missing]:
    """Return what a run with these data needs and the store lacks."""
    wanted: dict[View, list[NDArray[np.int64]]] = {}
    for split in ("train", "val", "test") if test else ("train", "val"):
        for view in data.views(split):
            wanted.setdefault(view, []).append(store.missing(data.split_rows(split)[0], view))
    parts = [Missing(view, np.unique(np.concatenate(rows))) for view, rows in wanted.items()]
    return [part for part in parts if len(part.rows)]


def _too_large(store: FeatureStore, missing: list[Missing], insist: bool) -> str | None:
    """Return that the disk has no room for the features, with the remedy; who did not ask for them keeps half of it."""
    wanted, free = _bytes(store, missing), store.free_bytes()
    spare = SPARE_BYTES if insist else max(SPARE_BYTES, free // 2)
    if not missing or wanted + spare <= free:
        return None
    more = "" if insist else f" or cache=true to leave no more than {_size(SPARE_BYTES)},"
    return (
        f"the features take {_size(wanted)} ({_size(store.picture_bytes)} a picture), and {store.path.parent} has "
        f"{_size(free)} free, of which {_size(spare)} are to stay. Set data_dir to a larger disk,{more} choose a "
        "deeper tap (head.tap=emotion2 or pooled) or a smaller data.image_size, remove features of former runs there, "
        "or set cache=false."
    )


def _pays(cfg: DictConfig, data: StoreDataModule) -> bool:
    """Whether a run takes more passes through the backbone than the cache does."""
    trainer = cfg.trainer
    whole = trainer.limit_train_batches == 1.0 and isinstance(trainer.limit_train_batches, float)
    shortened = bool(trainer.fast_dev_run) or bool(trainer.overfit_batches) or not whole
    return not shortened and trainer.max_epochs > len(data.views("train"))


def _bytes(store: FeatureStore, missing: list[Missing]) -> int:
    return sum(len(part.rows) for part in missing) * store.picture_bytes


def _size(n_bytes: int) -> str:
    """Return a number of bytes in the largest unit of which there is one."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(max(0, (n_bytes.bit_length() - 1) // 10), len(units) - 1)
    return f"{n_bytes / 2 ** (10 * power):.3g} {units[power]}"


def _announce(store: FeatureStore, missing: list[Missing]) -> None:
    n = sum(len(part.rows) for part in missing)
    log.info(
        *("Caching the features of %s pictures (%s each, %s in all; %s free) in %s", f"{n:,}"),
        *(_size(store.picture_bytes), _size(_bytes(store, missing)), _size(store.free_bytes()), store.path),
    )


def _compute(model: ExpressionClassifier, data: StoreDataModule, trainer: Trainer) -> Compute:
    """Return the function from rows and a view to the features that training would see."""
    device, tap = trainer.strategy.root_device, _tap(model)
    model.backbone.to(device)

    def compute(rows: NDArray[np.int64], view: View) -> Tensor:
        image = data.plain_pictures(rows)["image"].to(device)
        with torch.inference_mode(), trainer.strategy.precision_plugin.forward_context():
            return model.backbone.features(image.flip(-1) if view == "mirrored" else image, tap)

    return compute


def _fill(store: FeatureStore, part: Missing, compute: Compute, batch_size: int, show: bool) -> None:
    """Compute what is missing, in parts that stay whatever happens next."""
    batches = [part.rows[i : i + batch_size] for i in range(0, len(part.rows), batch_size)]
    title = f"Features of {part.view} pictures"
    try:
        with store.writer(part.view) as writer:
            start = saved = time.monotonic()
            for done, rows in enumerate(track(batches, title, disable=not show), start=1):
                writer.add(rows, compute(rows, part.view))
                now = time.monotonic()
                if now - saved > COMMIT_SECONDS or done == len(batches):
                    writer.commit()
                    saved = now
                    left = (now - start) / done * (len(batches) - done)
                    log.info("%s: %d %%, %.0f s left", title, 100 * done // len(batches), left)
    except OverflowError as error:
        raise ConfigError(
            f"the features cannot be cached: {error}. Set trainer.precision=bf16-mixed, or cache=false."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot write the features to {store.path}: {error.strerror or error}. Those written so far are kept: "
            f"free some space and start again, or remove {shlex.quote(str(store.path))} and set cache=false."
        ) from error
