"""Order of the training images: a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (index, epoch), shuffled anew each epoch, so that the data set knows the epoch of each image.

    Lightning calls `set_epoch`, except for the first iterator after a resume, which it makes before (Lightning#21938):
    the caller states the first epoch.

    Attributes:
        epoch: Epoch of the next iterator, from 0.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        first_epoch: int = 0,
        *,
        repeat: bool = False,
    ) -> None:
        """Create the sampler.

        Args:
            n: Number of images.
            seed: The run's seed.
            weights: Weight of each image, (n,): draw n images with replacement; None for a permutation.
            rank: This process's rank.
            world_size: Number of processes; each gets every `world_size`-th image, all equally many.
            first_epoch: Epoch of the first iterator.
            repeat: Whether every epoch repeats the first one, augmentation and all.
        """
        self.n, self.seed, self.rank, self.world_size = n, seed, rank, world_size
        self.probabilities = None if weights is None else weights / weights.sum()
        self.epoch, self.repeat = first_epoch, repeat

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of images that this process sees in an epoch."""
        return self.n // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (index, epoch)."""
        epoch = 0 if self.repeat else self.epoch
        rng = np.random.default_rng((self.seed, epoch))
        if self.probabilities is None:
            order = rng.permutation(self.n)
        else:
            order = rng.choice(self.n, size=self.n, p=self.probabilities)
        for index in order[self.rank : len(self) * self.world_size : self.world_size]:
            yield int(index), epoch


def balanced_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights that draw every class equally often, (N,), for class indices (N,), -1 being one, too."""
    counts = np.bincount(labels + 1)
    return 1.0 / counts[labels + 1]
