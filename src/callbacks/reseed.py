"""Seeds the global random state at the start of each epoch."""

from __future__ import annotations

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything

from src.utils.errors import ConfigError


class ReseedEachEpoch(Callback):
    """Makes dropout, MixUp and CutMix a function of (seed, epoch), so that a resumed run repeats the straight one."""

    def __init__(self, seed: int) -> None:
        """Create the callback.

        Args:
            seed: The run's seed.
        """
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reseed Python, numpy and torch."""
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        seed_everything(int(entropy.generate_state(1)[0]), verbose=False)

    def state_dict(self) -> dict[str, int]:
        """Return the seed, for the checkpoint."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Refuse to go on with another seed.

        Raises:
            ConfigError: If the checkpoint's seed is another one.
        """
        if state_dict["seed"] != self.seed:
            raise ConfigError(
                f"seed={self.seed}, but the checkpoint was made with seed={state_dict['seed']}; resume with that one."
            )
