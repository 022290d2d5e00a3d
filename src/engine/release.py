"""From a trained run to a file that others may use, and to its model card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from src.engine.publish import check_publication, publish_weights
from src.metrics.calibration import expected_calibration_error, fit_temperature, retemper
from src.models.origin import NO_DERIVATIVES
from src.models.registry import load_plugins
from src.models.rescaling import rescale
from src.models.spec import ONLY_VOCABULARY, ModelSpec
from src.models.weights import build_from_weights, load_weights, read_origin, save_safetensors
from src.reports.model_card import portable, write_card
from src.runs import layout
from src.runs.finished import Run
from src.runs.records import read_metrics, read_provenance
from src.utils.checksums import file_sha256
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

# What of a run's provenance travels with its weights.
ORIGIN = ("overrides", "git_sha", "data", "weights", "versions", "started")


def release(cfg: DictConfig) -> None:
    """Write `<folder>/<name>.safetensors`, or the card `<folder>/<name>.md` of weights that are there; publish them.

    Args:
        cfg: Configuration of `conf/release.yaml`.

    Raises:
        ConfigError: If there is neither a model nor a test of it, or they do not fit.
    """
    folder = Path(cfg.folder).expanduser()
    path = folder / f"{cfg.name}.safetensors"
    if (cfg.ckpt_path is None) == (cfg.runs is None):
        raise ConfigError(
            "release does one of two things: ckpt_path=<a run> writes the weights; runs=[<evaluations of them>] writes "
            f"their card. Got ckpt_path={cfg.ckpt_path} and runs={cfg.runs}; set one of them."
        )
    if cfg.ckpt_path is not None:
        if cfg.hub is not None:
            raise ConfigError(
                f"hub={cfg.hub} publishes weights with their card; set it with runs=, in the second step."
            )
        folder.mkdir(parents=True, exist_ok=True)
        _write_weights(cfg, path)
        return
    if not path.is_file():
        raise ConfigError(f"name={cfg.name}: {path} does not exist; write it first, with ckpt_path=<a run>.")
    if cfg.hub is not None:
        check_publication(cfg.hub, path)
    runs = [_read_run(location, "runs") for location in _listed(cfg.runs)]
    card = write_card(path, runs)
    console = Console(stderr=True, markup=False)
    console.print(f"Card: {card}", soft_wrap=True, highlight=False)
    if cfg.hub is not None:
        console.print(f"Published: {publish_weights(cfg.hub, path, card, runs)}", soft_wrap=True, highlight=False)


def _write_weights(cfg: DictConfig, path: Path) -> None:
    load_plugins(cfg.plugins)
    source = layout.find_checkpoint(cfg.ckpt_path)
    weights = load_weights(source)
    if weights.spec.license == NO_DERIVATIVES:
        log.warning("%s is for your own use. %s", path, weights.spec.terms)
    temperatures = dict(weights.spec.temperatures)
    for location in _listed(cfg.calibrate):
        run = _read_run(location, "calibrate")
        _check_calibration(run, location, weights.spec)
        vocabulary = vocabulary_of(weights.spec, run)
        before = weights.spec.temperatures.get(vocabulary, 1.0)
        temperatures[vocabulary] = before * _fit(run, vocabulary)
    derived = weights.spec.derived if cfg.derived is None else tuple(_listed(cfg.derived))
    spec = replace(weights.spec, temperatures=temperatures, derived=derived)
    model = build_from_weights(replace(weights, spec=spec))
    for name, factor in rescale(model).items():
        log.info("Scaled %s by %g, within what follows: half precision holds its values now.", name, factor)
    run_dir = layout.run_of(source)
    origin = read_provenance(run_dir)
    kept = read_origin(source) if source.suffix == ".safetensors" else {}
    kept |= {key: origin[key] for key in ORIGIN if key in origin}
    kept["overrides"] = portable(kept.get("overrides", []))
    numbers = read_metrics(run_dir)
    kept |= {"fit/seconds": numbers["fit/seconds"]} if "fit/seconds" in numbers else {}
    save_safetensors(model, path, half=True, origin=kept)
    console = Console(stderr=True, markup=False)
    console.print(f"Weights: {path}, {path.stat().st_size / 1e6:.1f} MB", soft_wrap=True, highlight=False)
    digest = file_sha256(path)
    console.print(f"Fingerprint, for conf/backbone/{cfg.name}.yaml: sha256: {digest}", soft_wrap=True, highlight=False)


def _fit(run: Run, vocabulary: str) -> float:
    """Return the temperature that suits a run's validation images, and say what it does to them."""
    probabilities, labels = run.probabilities, run.indices("label", run.class_names)
    temperature = fit_temperature(probabilities, labels)
    after = retemper(probabilities, temperature)
    ece = [expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels) for p in (probabilities, after)]
    log.info(
        "%s: temperature %.3f on %s validation images; calibration error %.4f, then %.4f",
        *(vocabulary, temperature, f"{len(labels):,}", *ece),
    )
    return temperature


def _check_calibration(run: Run, location: str, spec: ModelSpec) -> None:
    if run.split != "val":
        raise ConfigError(
            f"calibrate={location} holds predictions of the {run.split} split; the temperature is fitted on "
            "validation: python -m src.eval ckpt_path=... split=val"
        )
    if run.config.get("tta", "none") != "none":
        raise ConfigError(f"calibrate={location} averages views (tta={run.config['tta']}); expected tta=none.")
    if not np.isin(run.predictions["label"].unique(), run.class_names).all():
        raise ConfigError(f"calibrate={location} has labels that its model lacks; test it on data with its classes.")


def vocabulary_of(spec: ModelSpec, run: Run) -> str:
    """Return the vocabulary whose classes a run predicts.

    Raises:
        ConfigError: If the model has no such vocabulary.
    """
    known = spec.vocabularies or {ONLY_VOCABULARY: spec.class_names}
    for name, classes in known.items():
        if classes == run.class_names:
            return name
    raise ConfigError(
        f"{run.path} predicts {', '.join(run.class_names)}; the model has "
        + "; ".join(f"{name}: {', '.join(classes)}" for name, classes in known.items())
        + ". Expected an evaluation of this model."
    )


def _read_run(location: str, argument: str) -> Run:
    path = Path(location).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{argument}={location} is no directory; expected the run directory of an evaluation.")
    return Run.read(path)


def _listed(value: Any) -> Sequence[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
