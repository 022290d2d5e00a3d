"""Cached features in the place of images, with the same labels, order and views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.dataset import Inputs, StoreDataset
from src.data.store.feature_store import FeatureStore


class FeatureDataset(StoreDataset):
    """Serves the features of the rows of a store; an image is mirrored where `StoreDataset` would mirror it."""

    def __init__(self, features: FeatureStore, **images: Any) -> None:
        """Create the data set.

        Args:
            features: The features, which must be there for all rows.
            **images: Arguments of `StoreDataset`; the transform may do nothing but mirror.
        """
        super().__init__(**images)
        self.features = features

    def _inputs(self, rows: NDArray[np.int64], pairs: list[tuple[int, int]]) -> Inputs:
        mirrored = np.zeros(len(rows), bool)
        if self.transform is not None:
            mirrored[:] = [self.transform.mirrors(epoch, index) for index, epoch in pairs]
        return {"features": self.features.read(rows, mirrored)}
