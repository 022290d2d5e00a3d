"""What a frozen backbone makes of a data set, computed once and kept, so that heads train without it."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable
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
from src.data.store.feature_store import FORMAT, FeatureStore, View
from src.models.arguments import Tap
from src.models.classifier import ExpressionClassifier
from src.models.emonet import tap_side
from src.models.weights import weights_digest
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

Compute = Callable[[NDArray[np.int64], View], Tensor]
# Features are kept in the precision in which the head would get them, of float32 in the nearest half; where that cannot
# hold them, in single precision.
NARROW = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float16}
WIDE = torch.float32
# Images in a batch at 64 px; fewer at larger sides.
BATCH = 256
# What a kill may cost.
COMMIT_SECONDS = 10.0
# Room that a cache leaves on the disk: for checkpoints, and for others.
SPARE_BYTES = 2**30


@dataclass(frozen=True)
class Missing:
    """Images of one view that have no features yet."""

    view: View
    rows: NDArray[np.int64]


def with_cached_features(
    cfg: DictConfig, model: ExpressionClassifier, data: StoreDataModule, trainer: Trainer
) -> StoreDataModule:
    """Return the data with features instead of images, if `cache` asks for it; compute those that are missing.

    Args:
        cfg: Configuration of `conf/train.yaml`.
        model: The model to train.
        data: Its data.
        trainer: The trainer, whose device and precision count.

    Returns:
        The data with features; the data as they are, where these cannot be had or would not pay.

    Raises:
        ConfigError: If `cache=true` cannot be had.
    """
    if cfg.cache is False:
        return data
    obstacle = _obstacle(model, data, str(trainer.precision))
    if obstacle is None:
        try:
            store, obstacle = _filled(cfg, model, data, trainer)
        except (ConfigError, OSError) as error:
            if cfg.cache is True:
                raise
            # Who did not ask for the cache is not to be stopped by it.
            log.warning("Training goes on without cached features: %s", error)
            return data
        if store is not None:
            return data.with_features(store)
    if obstacle is not None and cfg.cache is True:
        raise ConfigError(f"cache=true, but {obstacle}")
    if obstacle is not None and model.frozen_tap is not None:
        log.info("The backbone is frozen, but its features are not cached: %s", obstacle)
    return data


def _filled(
    cfg: DictConfig, model: ExpressionClassifier, data: StoreDataModule, trainer: Trainer
) -> tuple[FeatureStore | None, str | None]:
    """Compute what is missing, and return the complete features, in the narrowest width that holds them.

    Returns:
        The features, or None; and why they do not fit on the disk, or None. Neither, where they would not pay.
    """
    precision = str(trainer.precision)
    origin = _origin(model, data, precision)
    narrow, wide = (_open(origin, data, dtype) for dtype in (NARROW[precision], WIDE))
    # What was too large once is so again.
    for store in [wide] if wide.path.exists() else [narrow, wide]:
        missing = _missing(store, data, test=cfg.test)
        obstacle = _too_large(store, missing, insist=cfg.cache is True)
        if obstacle is not None or (cfg.cache == "auto" and missing and not _pays(cfg, data)):
            return None, obstacle
        try:
            _complete(cfg, store, origin, _compute(model, data, trainer), data)
        except OverflowError as error:
            if store.dtype == WIDE:
                raise ConfigError(
                    f"the backbone's features are not finite in trainer.precision={precision}. Set "
                    "trainer.precision=32-true, or use other weights."
                ) from error
            log.info("Half precision cannot hold these features: they are kept in single precision.")
            shutil.rmtree(store.path, ignore_errors=True)
            continue
        log.info("Features of the frozen backbone: %s", store.path)
        return store, None
    return None, None


def _complete(
    cfg: DictConfig, store: FeatureStore, origin: dict[str, Any], compute: Compute, data: StoreDataModule
) -> None:
    """Compute what a store lacks.

    Raises:
        OverflowError: If the store's width cannot hold it.
        ConfigError: If it cannot be written.
    """
    missing = _missing(store, data, test=cfg.test)
    if not missing:
        return
    _announce(store, missing)
    batch_size = max(1, BATCH * 64**2 // data.image_size**2)
    try:
        with store.locked(_description(origin, store.dtype)):
            for part in _missing(store, data, test=cfg.test):  # another process may have been faster
                _fill(store, part, compute, batch_size, show=cfg.trainer.enable_progress_bar)
    except OSError as error:
        raise ConfigError(
            f"cannot write the features to {store.path}: {error.strerror or error}. Those written so far are kept: "
            f"free some space and start again, or remove {shlex.quote(str(store.path))} and set cache=false."
        ) from error


def _obstacle(model: ExpressionClassifier, data: StoreDataModule, precision: str) -> str | None:
    """Return why features cannot stand in for images, with the remedy; None if they can."""
    if model.frozen_tap is None:
        return "the backbone is trained: its features change. Set backbone.freeze=all or fused, or cache=false."
    if not data.transform.only_mirrors:
        return (
            f"transform={data.transform.name} gives every epoch other images. Set transform=none or flip, or "
            "cache=false."
        )
    if precision not in NARROW:
        return f"features of trainer.precision={precision} are not kept. Set cache=false, or another precision."
    return None


def _origin(model: ExpressionClassifier, data: StoreDataModule, precision: str) -> dict[str, Any]:
    """Return all that determines the features."""
    tap, width, backbone = _tap(model), model.backbone.width, model.backbone
    side = tap_side(tap, data.image_size, backbone.n_blocks)
    own = {key: value for key, value in model.spec.backbone.items() if key != "name"}
    # What is trained after the tap has no part in the features.
    frozen = {k: v for k, v in backbone.state_dict().items() if tap != "fused" or not k.startswith("emo_net_2.")}
    return {
        "format": FORMAT,
        "data": data.fingerprint,
        "backbone": model.spec.backbone["name"],
        "weights": weights_digest(frozen),
        "mask_limit": backbone.mask_limit,
        "feature_scale": backbone.feature_scale,
        "normalize": model.spec.normalize,
        "image_size": data.image_size,
        "grayscale": data.grayscale,
        "tap": tap,
        "shape": [width] if tap == "pooled" else [width, side, side],
        "precision": precision,
        # What a network of one's own does beside its weights.
        **({"network": own} if "architecture" in own else {}),
    }


def _description(origin: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {**origin, "dtype": str(dtype).removeprefix("torch.")}


def _open(origin: dict[str, Any], data: StoreDataModule, dtype: torch.dtype) -> FeatureStore:
    """Return the store of features of one width."""
    description = {key: value for key, value in _description(origin, dtype).items() if key != "backbone"}
    text = json.dumps(description, sort_keys=True)
    name = f"{data.name}-{origin['tap']}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
    return FeatureStore(data.cache_dir / "features" / name, len(data.store), tuple(origin["shape"]), dtype)


def _tap(model: ExpressionClassifier) -> Tap:
    """Return the tap whose features are kept; a run that trains the whole backbone keeps none."""
    return model.frozen_tap or model.head.tap


def _missing(store: FeatureStore, data: StoreDataModule, test: bool) -> list[Missing]:
    """Return what a run with these data needs and the store lacks."""
    wanted: dict[View, list[NDArray[np.int64]]] = {}
    for split in ("train", "val", "test") if test else ("train", "val"):
        for view in data.views(split):
            wanted.setdefault(view, []).append(store.missing(data.loaded_rows(split)[0], view))
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
        f"the features take {_size(wanted)} ({_size(store.image_bytes)} an image), and {store.path.parent} has "
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
    return sum(len(part.rows) for part in missing) * store.image_bytes


def _size(n_bytes: int) -> str:
    """Return a number of bytes in the largest unit of which there is one."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(max(0, (n_bytes.bit_length() - 1) // 10), len(units) - 1)
    return f"{n_bytes / 2 ** (10 * power):.3g} {units[power]}"


def _announce(store: FeatureStore, missing: list[Missing]) -> None:
    n = sum(len(part.rows) for part in missing)
    log.info(
        *("Caching the features of %s images (%s each, %s in all; %s free) in %s", f"{n:,}"),
        *(_size(store.image_bytes), _size(_bytes(store, missing)), _size(store.free_bytes()), store.path),
    )


def _compute(model: ExpressionClassifier, data: StoreDataModule, trainer: Trainer) -> Compute:
    """Return the function from rows and a view to the features that training would see."""
    device, tap = trainer.strategy.root_device, _tap(model)
    model.backbone.to(device)

    def compute(rows: NDArray[np.int64], view: View) -> Tensor:
        image = data.plain_images(rows)["image"].to(device)
        with torch.inference_mode(), trainer.strategy.precision_plugin.forward_context():
            return model.backbone.features(image.flip(-1) if view == "mirrored" else image, tap)

    return compute


def _fill(store: FeatureStore, part: Missing, compute: Compute, batch_size: int, show: bool) -> None:
    """Compute what is missing, in parts that stay whatever happens next."""
    batches = [part.rows[i : i + batch_size] for i in range(0, len(part.rows), batch_size)]
    title = f"Features of {part.view} images"
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
