"""The panels of an explained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.data.datamodule import StoreDataModule
from src.data.store.packed_store import Split
from src.explanation.explainer import Explainer
from src.explanation.images import Images, Predictions, read_images
from src.explanation.panels import MapRow, draw_panel, explain_row
from src.explanation.targets import Target
from src.metrics.affect import DIMENSIONS
from src.models.classifier import ExpressionClassifier
from src.runs import layout
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """What the panels share.

    Attributes:
        run_dir: Run directory that they are drawn into.
        model: The model.
        data: The data, serving the model's classes.
        split: Split of the images.
        method: Method of the panels, never `auto`.
        layer: Layer, see `src.explanation.adapter.find_layer`, or None.
        n_images: Images a panel.
        found: What the model says about the images that were searched.
    """

    run_dir: Path
    model: ExpressionClassifier
    data: StoreDataModule
    split: Split
    method: str
    layer: str | None
    n_images: int
    found: Predictions

    def read(self, indices: Sequence[int]) -> Images:
        """Read images of the split."""
        return read_images(self.model, self.data, self.split, indices)

    def explainer(self, method: str | None = None) -> Explainer:
        """Return an explainer, of the method of the panels unless another one is named."""
        return Explainer(self.model, method or self.method, self.layer)

    def draw(self, name: str, title: str, images: Images, rows: Sequence[MapRow]) -> list[str]:
        """Draw a panel and return the names of its images."""
        path = draw_panel(self.run_dir / layout.FIGURES / f"{name}.png", title, images, rows)
        log.info("Wrote %s", path)
        return images.ids


def asked_pair(chosen: Sequence[str] | None, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the two classes that the user wants told apart, if any.

    Args:
        chosen: `explain.against`.
        names: The model's classes.

    Raises:
        ConfigError: If they are no two of the model's classes.
    """
    if chosen is None:
        return None
    first, second = chosen
    if first == second or not {first, second} <= set(names):
        raise ConfigError(f"explain.against={list(chosen)}; expected two of {', '.join(names)}.")
    return first, second


def confused_pair(found: Predictions) -> tuple[str, str] | None:
    """Return the names of the two classes most often confused, if any are."""
    pair = found.most_confused_pair()
    return None if pair is None else (found.class_names[pair[0]], found.class_names[pair[1]])


def draw_panels(study: Study, methods: Sequence[str], pair: tuple[str, str] | None) -> dict[str, list[str]]:
    """Draw every panel that has images; return the names of the images by panel."""
    panels: dict[str, list[str]] = {}
    found, n = study.found, study.n_images
    is_correct = found.classes == found.labels
    correct, incorrect = found.select(is_correct, n), found.select(~is_correct, n)
    if correct:
        panels["correct"] = _correct(study, study.read(correct), methods)
    if incorrect:
        panels["incorrect"] = _incorrect(study, study.read(incorrect), "incorrect", "Incorrect, chosen at random")
    confused = _mistakes_between(found, found.most_confused_pair(), n)
    if confused:
        first, second = (found.class_names[i] for i in found.most_confused_pair() or ())
        title = f"The pair most often confused: {first} and {second}"
        panels["confused"] = _incorrect(study, study.read(confused), "confused", title)
    if pair is not None:
        either = torch.isin(found.labels, torch.tensor([found.class_names.index(name) for name in pair]))
        told_apart = found.select(either & is_correct, n)
        if told_apart:
            panels["against"] = _against(study, study.read(told_apart), pair)
    if correct and "valence_arousal" in study.model.spec.outputs:
        panels["valence_arousal"] = _valence_arousal(study, study.read(correct))
    for name in ("correct", "incorrect", "confused", "against"):
        if name not in panels:
            log.info("No %s.png: none of the %d images searched is one.", name, len(found.indices))
    return panels


def _mistakes_between(found: Predictions, pair: tuple[int, int] | None, n: int) -> list[int]:
    if pair is None:
        return []
    both = torch.tensor(pair)
    return found.select(
        (found.classes != found.labels) & torch.isin(found.labels, both) & torch.isin(found.classes, both), n
    )


def class_targets(images: Images, classes: Tensor, against: Tensor | None = None) -> list[Target]:
    """Return each image's target: the class with an index of `classes`, against that of `against` if given, (N,)."""
    names = images.class_names
    others = [None] * len(classes) if against is None else [names[i] for i in against.tolist()]
    return [Target(names[i], other) for i, other in zip(classes.tolist(), others, strict=True)]


def _correct(study: Study, images: Images, methods: Sequence[str]) -> list[str]:
    rows = []
    for method in methods:
        with study.explainer(method) as explain:
            rows.append(explain_row(explain, images, class_targets(images, images.classes)))
    return study.draw("correct", "Correct, chosen at random: attribution for the class", images, rows)


def _incorrect(study: Study, images: Images, name: str, title: str) -> list[str]:
    label, predicted = images.labels, images.classes
    kinds = {
        "attribution for\nthe prediction": class_targets(images, predicted),
        "attribution for\nthe label": class_targets(images, label),
        "the prediction\nagainst the label": class_targets(images, predicted, label),
    }
    with study.explainer() as explain:
        rows = [explain_row(explain, images, targets, what) for what, targets in kinds.items()]
    return study.draw(name, title, images, rows)


def _against(study: Study, images: Images, pair: tuple[str, str]) -> list[str]:
    first, second = pair
    n = len(images.ids)
    with study.explainer() as explain:
        rows = [
            explain_row(explain, images, [target] * n, f"attribution for\n{target}")
            for target in (Target(first, second), Target(second, first), Target(first), Target(second))
        ]
    return study.draw("against", f"What tells {first} from {second}: correct ones of both", images, rows)


def _valence_arousal(study: Study, images: Images) -> list[str]:
    n = len(images.ids)
    with study.explainer() as explain:
        rows = [
            explain_row(explain, images, [Target(name)] * n, f"attribution for\nhigh {name}") for name in DIMENSIONS
        ]
    return study.draw(
        "valence_arousal", "Valence and arousal: what raises them (blank where nothing does)", images, rows
    )
