"""Which parameters an optimizer trains, at which rate and with which weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    head: nn.Module, backbone: nn.Module, learning_rate: float | None, lr_multiplier: float
) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model: weight decay is for weight matrices and kernels only.

    Args:
        head: The head.
        backbone: The backbone; parameters that need no gradient are left out.
        learning_rate: The head's learning rate; None for the optimizer's own.
        lr_multiplier: The backbone's learning rate is this many times the head's.

    Returns:
        Named groups, for a torch optimizer.
    """
    groups: list[dict[str, Any]] = []
    for name, part, factor in (("head", head, 1.0), ("backbone", backbone, lr_multiplier)):
        parameters = [p for p in part.parameters() if p.requires_grad]
        lr = {} if learning_rate is None else {"lr": learning_rate * factor}
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        if decayed:
            groups.append({"params": decayed, "name": name, **lr})
        if plain:
            groups.append({"params": plain, "name": f"{name}_no_decay", "weight_decay": 0.0, **lr})
    return groups
