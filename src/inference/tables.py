"""The tables of a prediction, written row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from src.inference.results import AFFECT, PLACES, Prediction
from src.runs import layout

FORMATS = ("csv", "jsonl")


class PredictionTable:
    """`predictions.csv` or `predictions.jsonl`: a row for each face; what is not known is empty, or null.

    Columns: `source`; `frame` and `time` (seconds), for videos; `track`, the person in a video; `face`, its number in
    the image; `x`, `y`, `width`, `height`, the box in pixels; `score` of the detector; `quality`, `ok` or why the
    prediction is not to be trusted (see `src.inference.results.REASONS`); `prediction`, the class; a
    probability for each class; `valence` and `arousal` if they are trained outputs.
    """

    def __init__(self, folder: Path, kind: str, class_names: Sequence[str], outputs: Sequence[str]) -> None:
        """Open the file.

        Args:
            folder: Folder to write to.
            kind: `csv` or `jsonl`.
            class_names: The model's classes.
            outputs: Its trained outputs.
        """
        self.path = (folder / layout.PREDICTIONS).with_suffix(f".{kind}")
        self._kind = kind
        affect = AFFECT if "valence_arousal" in outputs else ()
        self.columns = (*PLACES, "prediction", *class_names, *affect)
        # Names of files may be no text; they are in the table as they are on the disk.
        self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self._csv = csv.DictWriter(self._file, self.columns)
        if kind == "csv":
            self._csv.writeheader()

    def write(self, prediction: Prediction) -> None:
        """Add the faces of an image or frame."""
        for known in prediction.rows():
            row = {name: known.get(name) for name in self.columns}
            if self._kind == "csv":
                self._csv.writerow(row)
            else:
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def __enter__(self) -> PredictionTable:
        """Return the table."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()
