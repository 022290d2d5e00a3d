"""What an explanation is about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.metrics.affect import DIMENSIONS
from src.models.spec import ModelSpec
from src.utils.errors import ConfigError


@dataclass(frozen=True)
class Target:
    """An output of a model, or the difference of two.

    Attributes:
        name: A class, `valence` or `arousal`.
        against: Another of them, whose output is subtracted, or None.
    """

    name: str
    against: str | None = None

    def __str__(self) -> str:
        """Return the name that panels show."""
        return self.name if self.against is None else f"{self.name}, not {self.against}"

    def weights(self, spec: ModelSpec) -> Tensor:
        """Return the vector whose product with `Outputs` is explained, (n_outputs,).

        Raises:
            ConfigError: If the model has no such output, or it is not trained.
        """
        names = output_names(spec)
        weights = torch.zeros(len(names))
        for name, sign in ((self.name, 1.0), (self.against, -1.0)):
            if name is not None:
                if name not in names:
                    raise ConfigError(
                        f"explanation of {name!r}: the model has no such trained output; expected one of "
                        f"{', '.join(names)}."
                    )
                weights[names.index(name)] += sign
        return weights


def output_names(spec: ModelSpec) -> list[str]:
    """Return the names of what a model says about an image: its classes, valence and arousal where trained."""
    return [*spec.class_names, *(DIMENSIONS if "valence_arousal" in spec.outputs else ())]
