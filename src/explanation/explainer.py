"""Maps of what in an image speaks for a class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

import torch
from torch import Tensor

from src.explanation.adapter import Outputs, explainable, find_layer
from src.explanation.methods import AT_ONCE, METHODS, Request
from src.explanation.targets import Target
from src.models.classifier import ExpressionClassifier
from src.models.heads.base import AttentionHead
from src.utils.errors import ConfigError
from src.utils.extras import require_extra

log = logging.getLogger(__name__)


class Explainer:
    """Explains a model's outputs, inside a `with` block; after it the model is as it was before.

        with Explainer(model) as explain:
            maps = explain(images, [Target("happy"), Target("happy", against="sad")])

    Attributes:
        method: Name of the method, a key of `METHODS`.
        layer: Layer whose map the CAM methods weigh.
    """

    def __init__(self, model: ExpressionClassifier, method: str = "auto", layer: str | None = None) -> None:
        """Choose what to explain, and how.

        Args:
            model: The model, frozen or not, in any mode.
            method: A key of `METHODS`, or `auto`: HiResCAM for heads that flatten a map, where Grad-CAM's averages over
                positions lose what tells the classes apart, Grad-CAM for those that pool it.
            layer: A tap or a module; None for the deepest one with a map of 8 x 8 or more, see `find_layer`.

        Raises:
            ConfigError: If there is no such method or layer, the head has no attention to show, or a library is not
                installed.
        """
        if method != "auto" and method not in METHODS:
            raise ConfigError(f"explain.method={method}; expected one of auto, {', '.join(METHODS)}.")
        require_extra("explain")
        self.model = model
        if method == "attention" and not isinstance(model.head, AttentionHead):
            raise ConfigError(
                f"explain.method=attention, but the head {model.spec.head['name']} attends to nothing; choose another "
                "method, or a model with head=multihead or self_attention."
            )
        self.method = automatic_method(model) if method == "auto" else method
        self.layer = find_layer(model, layer)
        self._stack = ExitStack()
        self._outputs: Outputs | None = None

    @property
    def heading(self) -> str:
        """What a panel says of a map: method, layer and size of the map that was interpolated."""
        kind = METHODS[self.method]
        notes = [f"at {self.layer.name}, {self.layer.side} x {self.layer.side}"] if kind.reads_layer else []
        notes += [] if kind.has_target else ["same for all classes"]
        return "\n".join([kind.label, *notes])

    def __enter__(self) -> Explainer:
        """Make the model explainable."""
        self._outputs = self._stack.enter_context(explainable(self.model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the model as it was."""
        self._outputs = None
        self._stack.close()

    def __call__(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """Return where the attribution for the targets is.

        Args:
            images: RGB in [0, 1], (B, 3, S, S).
            targets: What to explain of each image, B.

        Returns:
            Maps in [0, 1], (B, S, S), on the CPU: 0 where nothing speaks for the target, 1 where most does, image by
            image; all 0 if nothing anywhere does.

        Raises:
            ConfigError: If the model has no such output.
            RuntimeError: Outside the `with` block.
        """
        if self._outputs is None:
            raise RuntimeError("an Explainer works inside its with block: `with Explainer(model) as explain: ...`")
        device = next(self.model.parameters()).device
        weights = torch.stack([target.weights(self.model.spec) for target in targets]).to(device)
        parts = []
        for start in range(0, len(images), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            # A copy: tensors of Lightning's inference mode cannot take gradients.
            request = Request(self._outputs, self.layer.module, images[part].to(device).clone(), weights[part])
            parts.append(METHODS[self.method].explain(request).float().cpu())
        attribution = torch.cat(parts).clamp_min(0)
        return attribution / attribution.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def automatic_method(model: ExpressionClassifier) -> str:
    """Return the CAM that suits a head, and say which."""
    method, why = ("hirescam", "flattens") if model.head.flattens else ("gradcam", "pools")
    log.info("Explanations: %s, because the head %s its features.", METHODS[method].label, why)
    return method
