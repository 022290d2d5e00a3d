"""An audit for people: the files beside the images, a table for the terminal, a contact sheet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from src.data.audit.audit import Audit, audit
from src.data.store.packed_store import SPLITS, PackedStore
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError
from src.utils.image_files import write_image

log = logging.getLogger(__name__)

AUDIT = "audit.json"
SHEET = "contact_sheet.png"
SHOWN = 10  # names listed in the terminal; audit.json has all
PER_CLASS = 12
TILE = 96
MARGIN = 170
GAP = 4


def open_audit(store: PackedStore, class_names: Sequence[str] | None = None, **described: Any) -> Audit:
    """Return the audit in the store's folder; made, with its contact sheet, at first use.

    Args:
        store: The images.
        class_names: Classes of the data set; None for those that the store has.
        **described: Further arguments of `audit`.

    Raises:
        ConfigError: If the folder cannot be written.
    """
    known = Audit.read(store.path / AUDIT)
    if known is not None:
        return known
    log.info("Auditing %s images", f"{len(store):,}")
    result = audit(store, class_names, **described)
    try:
        contact_sheet(store, store.path / SHEET)
        # Last: whoever finds it finds the sheet, too.
        write_json(store.path / AUDIT, result.to_dict())
    except OSError as error:
        raise ConfigError(
            f"cannot write the audit into {store.path}: {error.strerror or error}; free some space or allow "
            "writing there, or set data_dir to another folder."
        ) from error
    return result


def audit_table(result: Audit) -> Group:
    """Return the tables of the counts, the duplicates and the other findings, for a rich console."""
    tables: list[RenderableType] = [_counts_table(result), _duplicates_table(result), _findings_table(result)]
    if result.origins:
        tables.append(_origins_table(result))
    return Group(*tables, *(escape(remark) for remark in result.remarks))


def _counts_table(result: Audit) -> Table:
    table = _split_table(f"Images of {result.store}", "class")
    table.add_column("all", justify="right")
    classes = {name: [result.counts[split][name] for split in SPLITS] for name in result.counts["train"]}
    for name, numbers in classes.items():
        table.add_row(name, *(f"{n:,}" for n in (*numbers, sum(numbers))))
    totals = [sum(result.counts[split].values()) for split in SPLITS]
    table.add_section()
    table.add_row("all", *(f"{n:,}" for n in (*totals, sum(totals))))
    return table


def _duplicates_table(result: Audit) -> Table:
    table = _split_table("How many of them have a duplicate", "duplicate")
    for kind, numbers in (("exact", result.exact_duplicates), ("near", result.near_duplicates)):
        for other in SPLITS:
            table.add_row(f"{kind}, in {other}", *(f"{numbers[split][other]:,}" for split in SPLITS))
        table.add_section()
    return table


def _origins_table(result: Audit) -> Table:
    table = _split_table("Where they come from", "origin")
    table.add_column("with a duplicate in another origin", justify="right")
    for name, numbers in result.origins.items():
        shared = ", ".join(f"{other} {n:,}" for other, n in result.shared[name].items())
        table.add_row(escape(name), *(f"{numbers[split]:,}" for split in SPLITS), escape(shared))
    return table


def _split_table(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for split in SPLITS:
        table.add_column(split, justify="right")
    return table


def _findings_table(result: Audit) -> Table:
    table = Table(title="Findings")
    table.add_column("finding")
    table.add_column("number", justify="right")
    table.add_column("which", overflow="fold")
    conflicts = [" = ".join(map(_name, group["ids"], group["labels"])) for group in result.conflicts]
    between = [f"{name} {n:,}" for name, n in result.near_pairs_between.items() if n]
    skipped = [f"{entry['id']}: {entry['reason']}" for entry in result.skipped]
    for finding, number, which in (
        ("sizes", len(result.sizes), _listing([f"{size} ({n:,})" for size, n in result.sizes.items()])),
        ("color modes", len(result.modes), _listing([f"{mode} ({n:,})" for mode, n in result.modes.items()])),
        ("blank images", len(result.blank), _listing(result.blank)),
        ("groups of exact duplicates", result.exact_groups, f"{result.extra_duplicates:,} extra duplicates"),
        ("groups with conflicting labels", len(result.conflicts), _listing(conflicts)),
        ("training images with data.dedup=true", result.training_after_dedup, ""),
        ("test images of test_dedup", result.clean_test, ""),
        ("pairs of near duplicates", result.near_pairs, _listing(between)),
        ("unreadable files", len(result.skipped), _listing(skipped, "\n")),
    ):
        table.add_row(finding, f"{number:,}", escape(which))
    return table


def _name(identity: str, label: str) -> str:
    return f"{identity} {label}"


def _listing(names: Sequence[str], separator: str = ", ") -> str:
    more = [f"... ({AUDIT} has all)"] if len(names) > SHOWN else []
    return separator.join([*names[:SHOWN], *more])


def contact_sheet(store: PackedStore, path: Path) -> None:
    """Draw up to 12 images of each class, evenly spread over the store, and write them as a PNG.

    Args:
        store: The images.
        path: File to write; a reader never sees half of it.
    """
    bands = []
    for label, name in enumerate(store.class_names):
        rows = np.flatnonzero(store.labels == label)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, PER_CLASS).round().astype(int))]
        bands.append(_band(name, f"{len(rows):,}", [store.image(row) for row in chosen]))
    write_image(path, np.vstack(bands))


def _band(title: str, number: str, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Draw one row of the sheet: two lines of text, then images in their proportions."""
    band = np.full((TILE + GAP, MARGIN + PER_CLASS * (TILE + GAP), 3), 255, np.uint8)
    for text, height in ((title, 44), (number, 70)):
        cv2.putText(band, text, (10, height), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 1, cv2.LINE_AA)
    for column, image in enumerate(images):
        tile = _tile(image)
        height, width = tile.shape[:2]
        top = (TILE - height) // 2
        left = MARGIN + column * (TILE + GAP) + (TILE - width) // 2
        band[top : top + height, left : left + width] = tile
    return band


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image as RGB whose longer side is 96 pixels."""
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)
    return tile if tile.ndim == 3 else np.repeat(tile[..., None], 3, axis=2)
