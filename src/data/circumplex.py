"""Expression classes as points of valence and arousal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.data.vocabulary import CANONICAL

# Mean pleasure and arousal of the words happy, sad, surprised, fearful, disgusted and angry in J. A. Russell and
# A. Mehrabian, "Evidence for a three-factor theory of emotions", Journal of Research in Personality 11, 273-294 (1977).
# Neutral is the origin by definition; contempt is none of their words.
COORDINATES: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happy": (0.81, 0.51),
    "sad": (-0.63, -0.27),
    "surprise": (0.40, 0.67),
    "fear": (-0.64, 0.60),
    "disgust": (-0.60, 0.35),
    "angry": (-0.51, 0.59),
}


def project(distribution: NDArray[np.float32]) -> tuple[float, float]:
    """Return the valence and the arousal of a distribution over the classes: derived values, nobody annotated them.

    Args:
        distribution: Probabilities of the eight canonical classes, (8,).

    Returns:
        Mean of the classes' coordinates in [-1, 1]; NaN if half of the distribution or more is on classes without any.
    """
    placed = [CANONICAL.index(name) for name in COORDINATES]
    weights = distribution[placed]
    if 2 * weights.sum() <= distribution.sum():
        return float("nan"), float("nan")
    valence, arousal = weights @ np.array(list(COORDINATES.values())) / weights.sum()
    return float(valence), float(arousal)
