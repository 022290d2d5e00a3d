"""The parts of a table that several jobs write, each file as a whole, and what has written them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from src.data.readers.archives import DAMAGED
from src.inference.sources import Shard
from src.runs import layout
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError
from src.utils.locks import alone, new_lock
from src.utils.schemas import require_json

OTHER_FOLDER = "choose another folder (hydra.sweep.dir, or parts_dir)"
AGAIN = "Remove it: its part is then predicted again."


@dataclass(frozen=True)
class Parts:
    """The parts of one shard: a part is there if its items are, which are written last.

    Attributes:
        folder: Folder of the parts of all shards.
        shard: Whose.
        kind: Format of the predictions.
    """

    folder: Path
    shard: Shard
    kind: str

    def path(self, table: str, start: int) -> Path:
        """Return the file of a part.

        Args:
            table: Its folder, of `src.runs.layout`.
            start: How many sources of the shard come before it.
        """
        suffix = self.kind if table == layout.PREDICTION_PARTS else "csv"
        return self.folder / table / f"part-{self.shard.index:05}-{start:09}.{suffix}"

    def starts(self) -> list[int]:
        """Return where the parts begin that are there."""
        pattern = re.compile(rf"part-{self.shard.index:05}-(\d+)\.csv")
        found = (pattern.fullmatch(path.name) for path in (self.folder / layout.ITEM_PARTS).glob("part-*.csv"))
        return sorted(int(match[1]) for match in found if match)

    def items(self, start: int) -> list[dict[str, str]]:
        """Return the rows of a part's items.

        Raises:
            ConfigError: If the file is damaged.
        """
        path = self.path(layout.ITEM_PARTS, start)
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = list(csv.DictReader(file))
        except DAMAGED as error:
            raise ConfigError(f"{path} is broken ({error}). {AGAIN}") from error
        numbers = all((row.get("faces") or "").isdecimal() for row in rows)
        if not rows or not numbers or not {"source", "status"} <= rows[0].keys():
            raise ConfigError(f"{path} is broken: it is no table of items. {AGAIN}")
        return rows

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing the parts of this shard within the block.

        Raises:
            ConfigError: If another one is.
        """
        for table in (layout.PREDICTION_PARTS, layout.ITEM_PARTS):
            (self.folder / table).mkdir(parents=True, exist_ok=True)
        lock = new_lock(self.folder / layout.ITEM_PARTS / f".{self.shard.index:05}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise ConfigError(
                f"shard={self.shard.index} of {self.folder} is being predicted by another process; wait for it."
            ) from None
        except OSError:  # the file system knows no locks
            pass
        try:
            yield
        finally:
            lock.release()

    def claim(self, description: dict[str, Any]) -> None:
        """Say what writes the parts of all shards.

        Args:
            description: Everything that rows depend on, in plain values.

        Raises:
            ConfigError: If something else has written those that are there.
        """
        path = self.folder / layout.BATCH
        with alone(self.folder / f".{layout.BATCH}.lock"):
            known = require_json(path, dict[str, Any], "Remove it if the parts beside it are of these options.")
            if not known:
                write_json(path, description)
                return
        changed = [key for key in description if known.get(key) != description[key]]
        if changed:
            listed = "; ".join(f"{key}={description[key]} (there: {known.get(key)})" for key in changed)
            raise ConfigError(
                f"{self.folder} holds predictions of other options: {listed}. Repeat those that are there, or "
                f"{OTHER_FOLDER}."
            )
