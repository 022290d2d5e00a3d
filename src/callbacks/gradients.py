"""Norms of the gradients."""

from __future__ import annotations

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class GradientNorms(Callback):
    """Logs the Euclidean norms of the gradients, before they are clipped: of the head, of the backbone, of all."""

    def __init__(self, every_n_steps: int) -> None:
        """Create the callback.

        Args:
            every_n_steps: How often; 0 for never.
        """
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log `grad_norm/head`, `grad_norm/backbone` and `grad_norm/total`."""
        if not self.every_n_steps or (trainer.global_step + 1) % self.every_n_steps:
            return
        squares: dict[str, torch.Tensor] = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                part = name.split(".")[0]
                squares[part] = (
                    squares.get(part, torch.zeros(())) + parameter.grad.detach().float().square().sum().cpu()
                )
        if not squares:  # the epoch in which averaged weights renew their batch-norm learns nothing
            return
        squares["total"] = torch.stack(list(squares.values())).sum()
        for logger in trainer.loggers:
            logger.log_metrics({f"grad_norm/{k}": float(v.sqrt()) for k, v in squares.items()}, trainer.global_step)
