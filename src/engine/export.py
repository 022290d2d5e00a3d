"""One export: from weights to ONNX files and their parity report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from omegaconf import DictConfig
from rich.console import Console
from torch.utils.data import DataLoader

from src.data.datamodule import StoreDataModule
from src.data.dataset import StoreDataset
from src.engine.load import load_model_and_data, weights_origin, with_data_of_run
from src.exporting.deployed import DeployedModel
from src.exporting.onnx_files import export_fp32, publish, save, to_fp16, to_int8
from src.exporting.parity import Images, Parity, measure, parity_table, refuse_missed, torch_outputs
from src.models.onnx_metadata import onnx_beside, write_origin
from src.models.weights import load_weights, weights_digest
from src.runs import layout
from src.runs.directory import update_provenance
from src.runs.hub import is_on_hub
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

READ_AT_ONCE = 256


def export(cfg: DictConfig) -> list[Parity]:
    """Write a model as ONNX files and compare each with PyTorch.

    Args:
        cfg: Configuration of `conf/export.yaml`.

    Returns:
        The comparisons, as in `parity.json`.

    Raises:
        ConfigError: If there is no model, the configuration cannot work, or a file misses its limit.
    """
    run_dir = Path(cfg.run_dir)
    if cfg.onnx.beside and is_on_hub(str(cfg.ckpt_path)):
        raise ConfigError(
            f"onnx.beside=true, but ckpt_path={cfg.ckpt_path} lies in the cache of the Hub; leave one of them out."
        )
    cfg = with_data_of_run(cfg)
    model, data = load_model_and_data(cfg)
    deployed = DeployedModel(model, tuple(cfg.onnx.extra_outputs))
    data.prepare_data()
    data.setup()
    fp32 = export_fp32(deployed)
    paths = {}
    for precision in [cfg.onnx.precision] if isinstance(cfg.onnx.precision, str) else cfg.onnx.precision:
        path = run_dir / f"{deployed.spec.backbone['name']}_{deployed.spec.head['name']}_{precision}.onnx"
        save(_converted(fp32, precision, cfg, data), path, deployed, precision)
        log.info("Wrote %s", path)
        paths[precision] = path
    images = _sample(data.val_dataloader(), cfg.onnx.parity_pictures, cfg)
    reference = torch_outputs(model, images, deployed.output_names)
    rows = [measure(path, precision, images, reference) for precision, path in paths.items()]
    source = {"data": data.fingerprint, "split": "val", "class_names": list(deployed.spec.class_names)}
    write_json(run_dir / layout.PARITY, {**source, "files": [row.to_dict() for row in rows]})
    location = cfg.ckpt_path or cfg.backbone.weights
    update_provenance(run_dir, data=data.fingerprint, **weights_origin(location))
    console = Console(stderr=True, markup=False)
    console.print(parity_table(rows))
    console.print(f"Run directory: {run_dir}", soft_wrap=True, highlight=False)
    refuse_missed(rows)
    if cfg.onnx.beside:
        _publish(layout.find_checkpoint(location), rows, paths, source)
    return rows


def _publish(weights: Path, rows: list[Parity], paths: dict[str, Path], source: dict[str, Any]) -> None:
    """Put the files beside the weights, where `backend=auto` finds them."""
    digest = weights_digest(load_weights(weights).state)
    for row in rows:
        target = onnx_beside(weights, row.precision)
        publish(paths[row.precision], target, write_origin(digest, {**source, **row.to_dict()}))
        log.info("For backend=auto: %s", target)


def _converted(fp32: onnx.ModelProto, precision: str, cfg: DictConfig, data: StoreDataModule) -> onnx.ModelProto:
    """Return a copy of the graph in a precision."""
    graph = onnx.ModelProto()
    graph.CopyFrom(fp32)
    if precision == "fp32":
        return graph
    images = _sample(data.train_dataloader(), cfg.onnx.calibration_pictures, cfg).pixels
    return to_fp16(graph, images) if precision == "fp16" else to_int8(graph, images)


def _sample(loader: DataLoader[Any], n: int, cfg: DictConfig) -> Images:
    """Return n images of a split, drawn by the seed, or all if there are no more."""
    dataset = cast(StoreDataset, loader.dataset)
    chosen = np.sort(np.random.default_rng(cfg.seed).permutation(len(dataset))[:n]).tolist()
    batches = [dataset.__getitems__(chosen[i : i + READ_AT_ONCE]) for i in range(0, len(chosen), READ_AT_ONCE)]
    pixels, labels = (np.concatenate([batch[key].numpy() for batch in batches]) for key in ("image", "label"))
    return Images(pixels, labels)
