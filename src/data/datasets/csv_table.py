"""A user's own images, listed in a CSV file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.readers.archives import open_table
from src.data.readers.class_folders import Entry, draw_splits, read_entries
from src.data.readers.file_tree import single_file
from src.data.readers.images import MAX_SIDE
from src.data.readers.splits import SPLIT_NAMES, check_fractions
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import CANONICAL, canonical_name
from src.utils.errors import ConfigError

REQUIRED = ("path", "label")
OPTIONAL = ("split", "valence", "arousal", "subject")
# How AffectNet, and tables made from it, mark a missing valence or arousal.
MISSING = -2.0


@dataclass(frozen=True)
class Row:
    """A line of the table: its number, the image, and whom it shows (None if the table does not say)."""

    line: int
    entry: Entry
    subject: str | None


class CsvDataModule(StoreDataModule):
    """Images of a table `path,label[,split,valence,arousal,subject]`; paths count from the table's folder.

    Labels are names or synonyms of `src/data/vocabulary.py`, or numbers if `label_names` says what they mean. Without
    a `split` column (train, val, test and the synonyms of `SPLIT_NAMES`), splits are drawn by a seed, stratified by
    class; with a `subject` column, no subject is in two of them. A validation or test split that the column lacks is
    drawn from training. Valence and arousal are in [-1, 1]; empty or -2 means missing. The id of an image is its path
    as the table has it.
    """

    source_hint = f"a CSV file with the columns {','.join(REQUIRED)}[,{','.join(OPTIONAL)}]"

    def __init__(
        self,
        *,
        split_shares: Sequence[float],
        split_seed: int,
        label_names: Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        """Store the options; `conf/data/csv.yaml` documents them.

        Args:
            split_shares: Fractions of train, val and test where splits are to be drawn.
            split_seed: Seed of the draw, independent of the run's.
            label_names: Class names of the labels 0, 1, ...; None if the labels are names.
            **common: Arguments of `StoreDataModule`.

        Raises:
            ConfigError: If the fractions do not sum to 1, or a name is unknown.
        """
        super().__init__(**common)
        self.split_shares = check_fractions("data.split_shares", split_shares)
        self.split_seed = split_seed
        try:
            self.label_names = [canonical_name(name) for name in label_names or ()]
        except ConfigError as error:
            raise ConfigError(f"data.label_names={label_names}: {error}") from None

    def store_options(self) -> dict[str, Any]:
        """Return how the table is read, and the size and time of each image, since the source is the table alone."""
        base = self.source().parent
        states = [_state(base / row.entry.file.path) for row in self._rows()]
        return {
            "max_side": MAX_SIDE,
            "split_shares": self.split_shares,
            "split_seed": self.split_seed,
            "label_names": self.label_names,
            "pictures": hashlib.blake2b(json.dumps(states).encode(), digest_size=16).hexdigest(),
        }

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images in the table's order.

        Raises:
            ConfigError: If the table is broken, or puts a subject into two splits.
        """
        first: dict[str, Row] = {}
        for row in self._rows():
            known = first.setdefault(row.entry.file.path, row)
            if known is not row:
                yield Skipped(row.entry.file.path, f"line {row.line} lists it again, after line {known.line}")
        rows = list(first.values())
        self._check_subjects(rows)
        groups: list[Hashable] | None = None
        if any(row.subject for row in rows):
            # Whoever is not named is alone.
            groups = [row.subject or row.line for row in rows]
        yield from read_entries(draw_splits([row.entry for row in rows], self.split_shares, self.split_seed, groups))

    def _check_subjects(self, rows: Sequence[Row]) -> None:
        first: dict[str, Row] = {}
        for row in rows:
            if row.subject is None:
                continue
            other = first.setdefault(row.subject, row)
            if other.entry.split != row.entry.split:
                raise ConfigError(
                    f"data.path={self.path}: the subject {row.subject!r} is in {other.entry.split} (line {other.line}) "
                    f"and in {row.entry.split} (line {row.line}); keep each subject in one split, or leave out the "
                    "column split to have splits drawn, or the column subject to allow this."
                )

    def _rows(self) -> Iterator[Row]:
        """Parse the table."""
        path = self.source()
        with open_table(path, "data.path", self.source_hint) as lines:
            columns = [name.strip().lower() for name in next(lines, [])]
            if not set(REQUIRED) <= set(columns):
                found = ",".join(columns)[:80] or "nothing"
                raise ConfigError(f"data.path={path} has the columns {found!r}; expected {self.source_hint}.")
            for values in lines:
                if len(values) != len(columns):
                    found, wanted = f"{len(values)} fields", f"{len(columns)}, as in the first line"
                    raise self._broken(lines.line_num, found, wanted)
                cells = {name: value.strip() for name, value in zip(columns, values, strict=True)}
                yield self._row(path.parent, lines.line_num, cells)

    def _row(self, base: Path, line: int, cells: dict[str, str]) -> Row:
        if not cells["path"]:
            raise self._broken(line, "no path", "the path of an image")
        split = None
        if "split" in cells:
            split = SPLIT_NAMES.get(cells["split"].lower())
            if split is None:
                raise self._broken(line, f"the split {cells['split']!r}", ", ".join(SPLIT_NAMES))
        id = cells["path"].replace("\\", "/")
        entry = Entry(
            file=single_file(base / id, id),
            label=self._label(line, cells["label"]),
            split=split,
            valence=self._affect(line, "valence", cells.get("valence", "")),
            arousal=self._affect(line, "arousal", cells.get("arousal", "")),
        )
        return Row(line, entry, cells.get("subject") or None)

    def _label(self, line: int, label: str) -> str:
        if label.isdecimal() and int(label) < len(self.label_names):
            return self.label_names[int(label)]
        try:
            return canonical_name(label)
        except ConfigError:
            expected = f"{', '.join(CANONICAL)} or a synonym in src/data/vocabulary.py"
            if label.isdecimal():
                expected += "; for numbers, set data.label_names=[name of 0,name of 1,...]"
            raise self._broken(line, f"the label {label!r}", expected) from None

    def _affect(self, line: int, name: str, text: str) -> float:
        try:
            value = float(text or "nan")
        except ValueError:
            raise self._broken(line, f"the {name} {text!r}", "a number in [-1, 1], or nothing") from None
        if math.isnan(value) or value == MISSING:
            return math.nan
        if not -1 <= value <= 1:
            raise self._broken(line, f"the {name} {text}", "a number in [-1, 1]; -2 or nothing where it is missing")
        return value

    def _broken(self, line: int, found: str, expected: str) -> ConfigError:
        return ConfigError(f"data.path={self.path}: line {line} has {found}; expected {expected}. Repair the table.")


def _state(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return path.name, -1, -1
    return path.name, status.st_size, status.st_mtime_ns
