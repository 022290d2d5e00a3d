"""A finished run, read from its directory."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typing_extensions import TypedDict

from src.data.vocabulary import CANONICAL
from src.runs import layout
from src.runs.config import read_config
from src.runs.records import Metrics, read_provenance, read_status
from src.utils.errors import ConfigError
from src.utils.schemas import checked, require_json
from src.utils.torch_files import read_checkpoint

log = logging.getLogger(__name__)

OTHER_COLUMNS = ("id", "clip", "split", "label", "prediction", "in_dedup", "valence", "arousal")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: Its directory.
        metrics: Content of `metrics.json`.
        predictions: Content of `predictions.csv`, ordered by id: of the test split, or else of the validation split.
    """

    path: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Run:
        """Read a run directory.

        Raises:
            ConfigError: If it is not that of a finished run, or its files are broken.
        """
        remedy = "Repeat that evaluation, or leave it out."
        metrics = require_json(path / layout.METRICS, Metrics, remedy)
        file = path / layout.PREDICTIONS
        if not metrics or not file.is_file():
            state = read_status(path).get("state", "none")
            raise ConfigError(
                f"runs={path} holds no finished run (status: {state}); expected a directory with metrics.json and "
                "predictions.csv."
            )
        try:
            table = _read_predictions(file)
        except (ValueError, KeyError, OverflowError, MemoryError) as error:
            raise ConfigError(f"runs={path}: {file} is broken ({error}). {remedy}") from error
        return cls(path, metrics, table)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities of the classes, (N, n_classes)."""
        return self.predictions[list(self.class_names)].to_numpy(dtype=np.float64)

    def confidences(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the probability of each prediction and whether it is right, (N,) each."""
        return self.probabilities.max(axis=1), (self.predictions["label"] == self.predictions["prediction"]).to_numpy()

    @property
    def name(self) -> str:
        """Name of the directory; below a sweep, with the sweep's."""
        return f"{self.path.parent.name}/{self.path.name}" if self.path.parent.name != "runs" else self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of `config.yaml`, {} if there is none."""
        return read_config(self.path)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of `provenance.json`."""
        return read_provenance(self.path)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Classes with a probability, in the file's order."""
        return tuple(str(c) for c in self.predictions.columns if c not in OTHER_COLUMNS)

    @property
    def split(self) -> str:
        """Which split the predictions are of, `test` or `val`."""
        return "test" if self.predictions.empty else str(self.predictions["split"].iloc[0])

    @property
    def data_name(self) -> str:
        """Name of the data set that was tested."""
        return str((self.config.get("data") or {}).get("name", "unknown data"))

    @property
    def pixels(self) -> str | None:
        """Hash of the test images themselves; None for a run that did not note it."""
        return self.provenance.get("pictures")

    def test_set(self, with_pixels: bool) -> str:
        """Return a hash of what was tested: data set, names and labels of the images, and the images themselves."""
        pairs = self.predictions[["id", "label"]].to_csv(index=False, lineterminator="\n")
        pixels = self.pixels if with_pixels else ""
        return hashlib.sha256(f"{self.data_name}\n{pixels}\n{pairs}".encode()).hexdigest()[:12]

    def without_duplicates(self) -> Run:
        """Return the run on the test images without a duplicate elsewhere."""
        return replace(self, predictions=self.predictions[self.predictions["in_dedup"]].reset_index(drop=True))

    def indices(self, column: str, names: Sequence[str]) -> NDArray[np.int64]:
        """Return `label` or `prediction` as positions in names, (N,)."""
        position = {name: i for i, name in enumerate(names)}
        found = self.predictions[column].map(position)
        if found.isna().any():
            strange = self.predictions[column][found.isna()].iloc[0]
            raise ConfigError(
                f"runs={self.path}: {layout.PREDICTIONS} has the {column} {strange!r}, which is none of the classes "
                f"{', '.join(names)}; leave the run out."
            )
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def history(self) -> pd.DataFrame:
        """Metrics of each epoch, a row per epoch; empty for an evaluation."""
        checkpoint = self.path / layout.LAST_CHECKPOINT
        if not checkpoint.is_file():
            return pd.DataFrame()
        content = checked(_History, read_checkpoint(checkpoint, mmap=True), checkpoint, "Remove it.")
        return pd.DataFrame(next((s["history"] for s in content["callbacks"].values() if "history" in s), []))

    @property
    def trained_with(self) -> dict[str, Any]:
        """Configuration of the training: its own or, for an evaluation, that of the run whose weights it tested.

        `task` stays `eval`, and what the evaluation says of the head and of views wins.
        """
        location = self.config.get("ckpt_path")
        if self.config.get("task") != "eval" or not location:
            return self.config
        trained = read_config(layout.run_of(location))
        if not trained:
            return self.config
        head = {k: v for k, v in (self.config.get("head") or {}).items() if v is not None}
        own = {"task": "eval", "tta": self.config.get("tta"), "head": {**(trained.get("head") or {}), **head}}
        return {**trained, **own}


class _Progress(TypedDict):
    """What of a callback's state is looked at."""

    history: NotRequired[list[dict[str, float | None]]]


class _History(TypedDict):
    """What of a checkpoint is looked at."""

    callbacks: dict[str, _Progress]


def _read_predictions(file: Path) -> pd.DataFrame:
    """Return the rows of the test split, or else of the validation split, ordered by id.

    Raises:
        ValueError: If the file is no table of predictions.
        KeyError: If it lacks a column.
    """
    # A class or a file may be called None or NA.
    text = dict.fromkeys(("id", "split", "label", "prediction"), str)
    table = pd.read_csv(file, dtype=text, keep_default_na=False, na_values=[""])
    if not table["in_dedup"].isin([True, False]).all():
        raise ValueError("in_dedup is not True or False")
    table["in_dedup"] = table["in_dedup"].astype(bool)
    table["id"] = table["id"].fillna("").astype(str)
    classes = [name for name in table.columns if name not in OTHER_COLUMNS]
    values = table[classes].to_numpy(dtype=np.float64)
    if not classes or not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError("expected a column of probabilities in [0, 1] for each class")
    labeled = table["label"].notna()  # other images have valence and arousal only
    if not (table["prediction"].isin(classes).all() and (labeled.all() or "valence" in table)):
        raise ValueError("a prediction is none of its classes, or a label is missing")
    table = table[labeled]
    tested = table[table["split"] == ("test" if (table["split"] == "test").any() else "val")]
    return tested.sort_values("id", ignore_index=True)


def find_runs(patterns: str | Sequence[str]) -> list[Run]:
    """Read the runs that directories and globs name.

    Args:
        patterns: Run directories, sweep directories (all their jobs), or globs of either. What a sweep or a glob holds
            besides finished runs is left out with a warning; a directory named itself must hold one.

    Raises:
        ConfigError: If there is none, or a named directory is not one.
    """
    runs: dict[Path, Run] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        expanded = str(Path(pattern).expanduser())
        named = Path(expanded).is_dir()
        found = [Path(expanded)] if named else sorted(Path(p) for p in glob.glob(expanded) if Path(p).is_dir())
        if not found:
            raise ConfigError(
                f"runs={pattern} names no directory; expected run or sweep directories, or a glob of them."
            )
        for path in found:
            if (path / layout.STATUS).exists() or (path / layout.METRICS).exists():
                _add(runs, path, optional=not named)
                continue
            jobs = sorted(p.parent for p in path.glob(f"*/{layout.STATUS}"))
            if not jobs and named:
                raise ConfigError(
                    f"runs={pattern} holds no run; expected a run or a sweep directory, or a glob of them."
                )
            for job in jobs:
                _add(runs, job, optional=True)
    if not runs:
        raise ConfigError(f"runs={patterns} names no finished run; expected directories with metrics.json.")
    return list(runs.values())


def _add(runs: dict[Path, Run], path: Path, optional: bool) -> None:
    key = path.resolve()
    if key in runs:
        return
    if optional and not ((path / layout.METRICS).exists() and (path / layout.PREDICTIONS).exists()):
        state = read_status(path).get("state", "none")
        if (path / layout.CONFIG).exists() and read_config(path).get("task") != "compare":
            log.warning("Left out, as it holds no finished test (status: %s): %s", state, path)
        return
    runs[key] = Run.read(key)


def check_same_test_set(runs: Sequence[Run]) -> None:
    """Refuse runs that were tested on different images.

    Raises:
        ConfigError: Naming the sets, and which runs have which.
    """
    sets: dict[str, list[Run]] = {}
    with_pixels = all(run.pixels for run in runs)
    for run in runs:
        sets.setdefault(run.test_set(with_pixels), []).append(run)
    if len(sets) == 1:
        return
    lines = []
    for key, members in sorted(sets.items(), key=lambda pair: -len(pair[1])):
        what = f"{members[0].data_name}, {len(members[0].predictions)} {members[0].split} images, set {key}"
        lines.append(f"  {what}: " + ", ".join(run.name for run in members))
    raise ConfigError(
        f"runs: {len(runs)} runs of {len(sets)} different test sets cannot be ranked:\n"
        + "\n".join(lines)
        + "\nExpected runs tested on the same images; choose those of one line with runs=[...], or test the "
        "others on the same data with python -m src.eval."
    )


def all_classes(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the classes of all runs: the canonical ones in their order, then others, such as merged ones."""
    names = dict.fromkeys(name for run in runs for name in run.class_names)
    return (*(name for name in CANONICAL if name in names), *(name for name in names if name not in CANONICAL))
