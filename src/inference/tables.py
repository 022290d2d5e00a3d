"""The tables of a prediction, written row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from src.inference.results import AFFECT, PLACES, Prediction


class RowWriter(Protocol):
    """A file of rows."""

    def write(self, row: dict[str, Any]) -> None:
        """Add a row, which has every column."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


def open_text(path: Path) -> IO[str]:
    """Open a table for writing. Names of files may be no text; they are in it as they are on the disk."""
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")


class PredictionTable:
    """A table with a row for each face; what is not known is empty, or null.

    Columns: `source`; `frame` and `time` (seconds), for videos; `track`, the person in a video; `face`, its number in
    the image; `x`, `y`, `width`, `height`, the box in pixels; `score` of the detector; `quality`, `ok` or why the
    prediction is not to be trusted (see `src.inference.results.REASONS`); `prediction`, the class; a
    probability for each class; `valence` and `arousal` if they are trained outputs.
    """

    def __init__(self, path: Path, kind: str, class_names: Sequence[str], outputs: Sequence[str]) -> None:
        """Open the file.

        Args:
            path: File to write.
            kind: `csv`, `jsonl` or `parquet`, whatever the file's name ends with.
            class_names: The model's classes.
            outputs: Its trained outputs.

        Raises:
            ConfigError: If the extra `parquet` is missing.
        """
        self.path = path
        affect = AFFECT if "valence_arousal" in outputs else ()
        self.columns = (*PLACES, "prediction", *class_names, *affect)
        self._rows = _open_rows(path, kind, self.columns)

    def write(self, prediction: Prediction) -> None:
        """Add the faces of an image or frame."""
        for known in prediction.rows():
            self._rows.write({name: known.get(name) for name in self.columns})

    def __enter__(self) -> PredictionTable:
        """Return the table."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._rows.close()


def _open_rows(path: Path, kind: str, columns: Sequence[str]) -> RowWriter:
    if kind == "parquet":
        from src.inference.parquet import ParquetRows

        return ParquetRows(path, columns)
    return _CsvRows(path, columns) if kind == "csv" else _JsonRows(path)


class _CsvRows:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = open_text(path)
        self._csv = csv.DictWriter(self._file, columns)
        self._csv.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        self._csv.writerow(row)

    def close(self) -> None:
        self._file.close()


class _JsonRows:
    def __init__(self, path: Path) -> None:
        self._file = open_text(path)

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()
