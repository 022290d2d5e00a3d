"""Where things are in a run directory and in the folder of a sweep: the one place that knows their names.

Names are relative to the directory: `run_dir / BEST_CHECKPOINT`. Users and their scripts rely on them.
"""

from __future__ import annotations

import os
from pathlib import Path

from src.runs import hub
from src.utils.errors import ConfigError

# Of every run.
STATUS = "status.json"
CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
LOCK = ".lock"
# A job of a sweep leaves this note in a folder that holds another run; the sweep's summary takes it away.
REFUSED = ".refused"
# A search leaves this one in the folder of a trial that was killed: it has run another one in its place.
REPLACED = ".replaced"

# Of a training or an evaluation.
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
BEST_CHECKPOINT = f"{CHECKPOINTS}/best.ckpt"
BEST_WEIGHTS = f"{CHECKPOINTS}/best.safetensors"
LAST_CHECKPOINT = f"{CHECKPOINTS}/last.ckpt"
FIGURES = "figures"
CONFUSION_MATRIX = f"{FIGURES}/confusion_matrix.png"
PRECISION_RECALL = f"{FIGURES}/precision_recall.png"
LEARNING_CURVES = f"{FIGURES}/learning_curves.png"
GRADCAM = f"{FIGURES}/gradcam.png"
LR_FINDER = f"{FIGURES}/lr_finder.png"
REGIONS = f"{FIGURES}/regions.png"
WANDB_PROGRESS = "wandb/progress.json"

# Of the other commands; `prepare` takes the names of `src.data.audit`, which keeps its files beside the data, too.
EXPLANATION = "explanation.json"
PARITY = "parity.json"
ITEMS = "items.csv"
PEOPLE = "people.csv"
TIMELINES = "timelines"
ANNOTATED = "annotated"
# Of predictions in shards: what wrote the parts, and the folders of these.
BATCH = "batch.json"
PREDICTION_PARTS = "predictions"
ITEM_PARTS = "items"
PEOPLE_PARTS = "people"
BENCHMARK = "benchmark.json"
BENCHMARK_TABLE = "benchmark.md"
LEADERBOARD = "leaderboard.csv"
ENTRY_PAIRS = "entry_pairs.csv"
RUN_PAIRS = "run_pairs.csv"
COMPARISON = "comparison.html"

# Of a sweep.
SUMMARY = "summary.csv"
SUMMARY_PAGE = "summary.html"
BEST_EXPERIMENT = "experiment/best.yaml"
STUDY = "study.db"


def find_checkpoint(location: str, name: str = BEST_CHECKPOINT, argument: str = "ckpt_path") -> Path:
    """Return the weights file that `ckpt_path` means.

    Args:
        location: A run directory, a `.ckpt`, a `.safetensors`, or weights on the Hugging Face Hub, see `hub.FORM`.
        name: Checkpoint to take from a run directory.
        argument: What the location was given as, for the message.

    Raises:
        ConfigError: If there is none.
    """
    if hub.is_on_hub(location):
        return hub.find(location, argument).path
    path = Path(os.path.expanduser(location))
    if path.is_dir():
        checkpoint = path / name
        if not checkpoint.is_file():
            raise ConfigError(f"{argument}={location} holds no {name}; expected a directory of a run.")
        return checkpoint
    if not path.is_file():
        raise ConfigError(
            f"{argument}={location} does not exist; expected a run directory, a .ckpt or a .safetensors, or "
            "hf://owner/name of the Hugging Face Hub."
        )
    return path


def run_of(location: str | Path) -> Path:
    """Return the run directory that `ckpt_path` means: itself, or the one in whose `checkpoints/` a file lies."""
    path = Path(os.path.expanduser(location))
    return path if path.is_dir() else path.parent.parent
