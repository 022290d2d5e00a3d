"""The card of a weights file: what it is, what it scores, what it must not be used for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from src.metrics.calibration import expected_calibration_error, negative_log_likelihood, retemper
from src.metrics.intervals import confusion_matrices, label_fractions
from src.metrics.landmarks import REGIONS, region_metric
from src.models.crops import CROPS
from src.models.spec import ONLY_VOCABULARY, VALUE_RANGE, ModelSpec
from src.models.weights import load_weights, read_origin
from src.reports.numbers import shown_metric
from src.runs.finished import Run
from src.utils.atomic_files import write_text
from src.utils.checksums import file_sha256
from src.utils.errors import ConfigError
from src.utils.paths import ROOT

# An absolute path as the value, or within the value, of an override; hf:// is none.
_PATH = re.compile(r"(?<=[=,: \[\"'])(?<!hf:)/[^,\]}\"']+")
METRICS = ("accuracy", "f1_macro", "f1_weighted", "balanced_accuracy")


def write_card(weights: Path, runs: Sequence[Run]) -> Path:
    """Write a Markdown card beside a weights file.

    Args:
        weights: The `.safetensors` file.
        runs: Evaluations of it, in the order of the card.

    Returns:
        The card.

    Raises:
        ConfigError: If an evaluation is of other weights.
    """
    digest = file_sha256(weights)
    for run in runs:
        if run.provenance.get("weights_sha256") != digest:
            raise ConfigError(
                f"runs={run.path} evaluated other weights than {weights} (SHA-256 "
                f"{run.provenance.get('weights_sha256')}, expected {digest}); repeat that evaluation with "
                f"ckpt_path={weights}."
            )
    loaded = load_weights(weights)
    environment = Environment(
        loader=PackageLoader("src.reports", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("model_card.md.jinja").render(
        name=weights.stem,
        file=weights.name,
        size=f"{weights.stat().st_size / 1e6:.1f} MB",
        sha256=digest,
        spec=loaded.spec,
        crops=CROPS,
        value_range=VALUE_RANGE,
        parameters=f"{sum(v.numel() for k, v in loaded.state.items() if _is_parameter(k)) / 1e6:.2f} M",
        vocabularies=loaded.spec.vocabularies or {ONLY_VOCABULARY: loaded.spec.class_names},
        origin=read_origin(weights),
        sections=[_section(run, loaded.spec) for run in runs],
    )
    path = weights.with_suffix(".md")
    write_text(path, text)
    return path


def portable(overrides: Sequence[str]) -> list[str]:
    """Return overrides without the places of files on this machine: paths are relative to the project, or names."""
    return [_PATH.sub(_shortened, override) for override in overrides]


def _shortened(match: re.Match[str]) -> str:
    path = Path(match.group())
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _is_parameter(key: str) -> bool:
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _section(run: Run, spec: ModelSpec) -> dict[str, Any]:
    """Return what the card says of one evaluation."""
    split = run.split
    tta = str(run.config.get("tta", "none"))
    return {
        "title": f"`data={run.data_name}`, {split} split",
        "command": "python -m src.eval " + " ".join(portable(run.provenance.get("overrides", []))),
        "data": run.provenance.get("data"),
        "views": "one view of each image" if tta == "none" else f"mean over the views of tta={tta}",
        "n": len(run.predictions),
        "numbers": _numbers(run.metrics, split),
        "classes": _classes(run),
        "confusion": _confusion(run),
        "landmarks": _landmarks(run.metrics, split),
        "calibration": _calibration(run, spec) if tta == "none" else None,
    }


def _landmarks(metrics: Mapping[str, Any], split: str) -> dict[str, str]:
    """Return the median error of each part of the face, in percent of the distance of the outer eye corners."""
    found = {region: metrics.get(f"{split}/{region_metric(region)}") for region in REGIONS}
    return {region: f"{100 * value:.1f} %" for region, value in found.items() if value is not None}


def _numbers(metrics: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    rows = []
    described = {split: "all images", f"{split}_dedup": "without a duplicate elsewhere", f"{split}_clip": "whole clips"}
    for name, what in described.items():
        if f"{name}/accuracy" in metrics:
            values = {metric: shown_metric(metrics, f"{name}/{metric}", percent=True) for metric in METRICS}
            rows.append({"what": f"{what} ({metrics[f'{name}/n']:,})", **values})
    single = f"{split}/accuracy_single_view"
    if single in metrics:
        rows.append({"what": "all, one view of each", "accuracy": shown_metric(metrics, single, percent=True)})
    return rows


def _classes(run: Run) -> list[dict[str, str]]:
    names, labels = run.class_names, run.predictions["label"]
    f1 = {name: run.metrics.get(f"{run.split}/f1/{name}") for name in names}
    return [
        {"name": name, "n": f"{int((labels == name).sum()):,}", "f1": "-" if value is None else f"{value:.3f}"}
        for name, value in f1.items()
    ]


def _confusion(run: Run) -> list[list[str]]:
    """Return rows of the table: label, then the fraction of each prediction in percent."""
    names = run.class_names
    labels, predictions = (run.indices(column, names) for column in ("label", "prediction"))
    (confusion,) = label_fractions(confusion_matrices(labels, [predictions], len(names)))
    return [[name, *(f"{100 * value:.0f}" for value in row)] for name, row in zip(names, confusion, strict=True)]


def _calibration(run: Run, spec: ModelSpec) -> dict[str, str]:
    """Return calibration error and log loss as the weights give them, and without their temperature."""
    known = spec.vocabularies or {ONLY_VOCABULARY: spec.class_names}
    vocabulary = next((name for name, classes in known.items() if classes == run.class_names), "")
    temperature = spec.temperatures.get(vocabulary, 1.0)
    after, labels = run.probabilities, run.indices("label", run.class_names)
    shown = {"temperature": f"{temperature:.3f}"}
    for when, p in (("before", retemper(after, 1 / temperature)), ("after", after)):
        ece = expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels)
        shown |= {f"ece_{when}": f"{ece:.3f}", f"nll_{when}": f"{negative_log_likelihood(p, labels):.3f}"}
    return shown
