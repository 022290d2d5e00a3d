"""One explanation of a model: panels, scores, `explanation.json`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.engine.load import load_model_and_data, weights_origin, with_data_of_run
from src.explanation.class_panels import Study, asked_pair, class_targets, confused_pair, draw_panels
from src.explanation.explainer import Explainer
from src.explanation.images import Images, face_points, predict_split, random_indices
from src.explanation.methods import METHODS
from src.explanation.regions import REGIONS, draw_regions, region_fractions, summarize_regions
from src.explanation.regions import Table as RegionTable
from src.explanation.scores import Scores, random_maps, score_maps, summarize
from src.models.classifier import ExpressionClassifier
from src.models.heads.base import AttentionHead
from src.reports.numbers import with_interval
from src.runs import layout
from src.runs.directory import update_provenance
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

Summary = dict[str, dict[str, dict[str, Any]]]
COLUMNS = {
    "insertion": "insertion",
    "deletion": "deletion",
    "gain": "difference",
    "gain_over_random": "over random",
}


def explain_model(cfg: DictConfig) -> dict[str, Any]:
    """Explain a model; everything about it comes from its weights.

    Args:
        cfg: Configuration of `conf/explain.yaml`.

    Returns:
        The content of `explanation.json`.

    Raises:
        ConfigError: If there is no model, or the configuration cannot work.
    """
    run_dir = Path(cfg.run_dir)
    cfg = with_data_of_run(cfg)
    model, data = load_model_and_data(cfg, drop_absent=True)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    explainer = Explainer(model, cfg.explain.method, cfg.explain.layer)  # refuses before anything is computed
    methods = _compared(cfg, model, explainer.method)
    asked = asked_pair(cfg.explain.against, model.spec.class_names)
    data.prepare_data()
    data.setup()
    split = cfg.explain.split
    indices = random_indices(data, split, cfg.explain.searched, cfg.seed)
    study = Study(
        run_dir=run_dir,
        model=model,
        data=data,
        split=split,
        method=explainer.method,
        layer=cfg.explain.layer,
        n_images=cfg.explain.pictures,
        found=predict_split(model, data, split, indices),
    )
    pair = asked or confused_pair(study.found)
    panels = draw_panels(study, methods, pair)
    scores = _scores(study, methods, cfg.explain.scored) if cfg.explain.scored else {}
    regions = _regions(study, cfg.explain.regions) if cfg.explain.regions else {}
    result = {
        "data": data.fingerprint,
        "split": split,
        "method": explainer.method,
        "layer": explainer.layer.name,
        "layer_side": explainer.layer.side,
        "searched": len(indices),
        "against": None if pair is None else list(pair),
        "panels": panels,
        "scored": min(cfg.explain.scored, len(indices)),
        "scores": scores,
        "regions": regions,
    }
    write_json(run_dir / layout.EXPLANATION, result)
    update_provenance(run_dir, data=data.fingerprint, **weights_origin(cfg.ckpt_path or cfg.backbone.weights))
    console = Console(stderr=True, markup=False)
    if scores:
        console.print(score_table(scores, result["scored"]))
    if regions:
        console.print(region_table(regions))
    console.print(f"Run directory: {run_dir}", soft_wrap=True, highlight=False)
    return result


def _compared(cfg: DictConfig, model: ExpressionClassifier, method: str) -> list[str]:
    """Return the methods to compare: those asked for, that of the panels, and attention where the head has it."""
    attends = isinstance(model.head, AttentionHead)
    possible = [name for name in METHODS if name != "attention" or attends]
    for name in cfg.explain.compare:
        if name not in possible:
            raise ConfigError(
                f"explain.compare={list(cfg.explain.compare)} names {name}; expected some of {', '.join(possible)}."
            )
    return list(dict.fromkeys([*cfg.explain.compare, method, *(["attention"] if attends else [])]))


def _scores(study: Study, methods: Sequence[str], n: int) -> Summary:
    """Score the methods, and random maps, on the attribution for the predicted class of n images."""
    images = study.read(study.found.indices[:n].tolist())
    targets = class_targets(images, images.classes)
    control = _score(study, images, random_maps(len(images.ids), images.images.shape[-1]))
    summary: Summary = {}
    for method in methods:
        with study.explainer(method) as explain:
            maps = explain(images.images, targets)
        summary[method] = summarize(_score(study, images, maps), control)
        log.info("Scored %s.", METHODS[method].label)
    summary["random"] = summarize(control, control)
    return summary


def _score(study: Study, images: Images, maps: Tensor) -> Scores:
    """Watch the probability of the predicted class."""
    model = study.model.eval()

    @torch.no_grad()
    def probability(images: Tensor, classes: Tensor) -> Tensor:
        fractions = model.probabilities(model(images.to(model.device))).cpu()
        return fractions.gather(1, classes.unsqueeze(1)).squeeze(1)

    return score_maps(probability, images.images, maps, images.classes)


def _regions(study: Study, n: int) -> RegionTable:
    """Measure which parts of the face the attribution for the predicted class falls on, for up to n images."""
    images = study.read(study.found.indices[:n].tolist())
    landmarks = face_points(study.data, study.split, images)
    if landmarks is None:
        log.info("No regions: neither the data nor the model have landmarks (data.landmarks_path).")
        return {}
    with study.explainer() as explain:
        maps = explain(images.images, class_targets(images, images.classes))
    table = summarize_regions(*region_fractions(maps, landmarks), images.classes, images.class_names)
    title = f"Where the attribution for the predicted class falls ({METHODS[study.method].label})"
    log.info("Wrote %s", draw_regions(study.run_dir / layout.REGIONS, title, table))
    return table


def region_table(regions: RegionTable) -> Table:
    """Return the fractions of the attribution as a table, a row per class."""
    table = Table(title="Percent of the attribution on each part of the face (and of the pixels)")
    table.add_column("predicted class")
    for region in REGIONS:
        table.add_column(region, justify="right")
    for name, entry in regions.items():
        cells = [f"{100 * value['mean']:.0f} ({100 * value['area']:.0f})" for value in entry.values()]
        table.add_row(f"{name}, {entry[REGIONS[0]]['n']} images", *cells)
    return table


def score_table(scores: Summary, n: int) -> Table:
    """Return the scores as a table, a row per method."""
    table = Table(title=f"Attribution for the predicted class, {n} images (95 % bootstrap intervals)")
    table.add_column("method")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for method, values in scores.items():
        label = METHODS[method].label if method in METHODS else "random map"
        # Two lines a cell: that makes four columns fit a terminal.
        cells = (with_interval(values[key]["mean"], values[key]["ci95"]).replace(" [", "\n[") for key in COLUMNS)
        table.add_row(label, *cells)
    return table
