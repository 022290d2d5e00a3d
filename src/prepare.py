"""`python -m src.prepare`: build the packed store of a data set, print and write its audit."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.utils.command_line import check_command_line
from src.utils.resolvers import register_resolvers

register_resolvers()


def prepare(cfg: DictConfig) -> None:
    """Make a data set ready, and say what is in it.

    Args:
        cfg: Configuration of `conf/prepare.yaml`.
    """
    # Imported here so that --help and a wrong option do not wait for torch.
    from pathlib import Path

    from rich.console import Console

    from src.data.audit_report import AUDIT, SHEET, audit_table, open_audit
    from src.pipeline import build_data
    from src.utils.run_directory import update_provenance, write_json
    from src.utils.validation import validate_config

    validate_config(cfg)
    # Whatever the model's side: pictures are stored at their own size.
    data = build_data(cfg, transform={"name": "none"}, image_size=cfg.data.image_size or 64)
    data.prepare_data()
    result = open_audit(data.store, data.source_classes)
    write_json(Path(cfg.run_dir) / AUDIT, result.to_dict())
    update_provenance(Path(cfg.run_dir), data=data.fingerprint)
    console = Console(stderr=True)
    console.print(audit_table(result))
    for name in (AUDIT, SHEET):
        console.print(f"{data.store.path / name}", soft_wrap=True, highlight=False)
    console.print(f"Run directory: {cfg.run_dir}", soft_wrap=True, highlight=False)


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
def main(cfg: DictConfig) -> float | None:
    """Run the entry point."""
    from src.utils.entry import run_job

    return run_job(cfg, prepare)


if __name__ == "__main__":
    check_command_line(sys.argv[1:])
    main()
