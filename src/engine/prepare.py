"""A data set, packed and audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from src.data.audit.report import AUDIT, SHEET, audit_table, open_audit
from src.engine.build import build_data
from src.runs.directory import update_provenance
from src.utils.atomic_files import write_json


def prepare(cfg: DictConfig) -> None:
    """Make a data set ready, and say what is in it.

    Args:
        cfg: Configuration of `conf/prepare.yaml`.
    """
    data = build_data(cfg)
    data.prepare_data()
    clips = [data.clip_of(str(id)) for id in data.store.ids]
    described: dict[str, Any] = {"origins": data.origins(), "clips": clips, "remarks": data.remarks()}
    result = open_audit(data.store, data.source_classes, **described)
    write_json(Path(cfg.run_dir) / AUDIT, result.to_dict())
    update_provenance(Path(cfg.run_dir), data=data.fingerprint)
    console = Console(stderr=True, markup=False)
    console.print(audit_table(result))
    for name in (AUDIT, SHEET):
        console.print(f"{data.store.path / name}", soft_wrap=True, highlight=False)
    console.print(f"Run directory: {cfg.run_dir}", soft_wrap=True, highlight=False)
