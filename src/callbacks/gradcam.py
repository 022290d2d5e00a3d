"""Where the network looks, at the end of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from src.data.datamodule import StoreDataModule
from src.explanation.explainer import Explainer
from src.explanation.images import first_of_each_class, read_images
from src.explanation.panels import draw_panel, explain_row
from src.explanation.targets import Target
from src.models.classifier import ExpressionClassifier
from src.runs import layout
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


class GradCamFigure(Callback):
    """Draws `figures/gradcam.png` once the best weights are validated: the first validation image of each class.

    The images are the same in every run on the same data. As they may show people, the figure stays in the run
    directory.
    """

    def __init__(self, run_dir: str, method: str, layer: str | None) -> None:
        """Create the callback.

        Args:
            run_dir: Run directory.
            method: Method, see `src.explanation.methods`, or `auto`.
            layer: Layer, see `src.explanation.adapter.find_layer`, or None.
        """
        self.path = Path(run_dir) / layout.GRADCAM
        self.method, self.layer = method, layer

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, unless this is a validation of an epoch."""
        if trainer.state.fn == TrainerFn.VALIDATING and trainer.is_global_zero:
            data = cast(StoreDataModule, trainer.datamodule)  # type: ignore[attr-defined]
            try:
                self._draw(cast(ExpressionClassifier, pl_module), data)
            except ConfigError as error:
                log.warning("No %s: %s Or leave it out with ~callbacks.gradcam.", layout.GRADCAM, error)

    def _draw(self, model: ExpressionClassifier, data: StoreDataModule) -> None:
        explainer = Explainer(model, self.method, self.layer)
        images = read_images(model, data, "val", first_of_each_class(data, "val"))
        names = images.class_names
        with explainer as explain:
            rows = []
            for what, classes in (("attribution for\nthe label", images.labels), ("the prediction", images.classes)):
                targets = [Target(names[i]) for i in classes.tolist()]
                rows.append(explain_row(explain, images, targets, what))
        draw_panel(self.path, "First validation image of each class", images, rows)
