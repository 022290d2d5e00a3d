"""How far a video is, and how long it still takes."""

from __future__ import annotations

import math
import time

# How often a long video says how far it is.
NEWS_SECONDS = 15


class Progress:
    """The way through a video, from its first prediction on: what was passed over before tells nothing of the rest."""

    def __init__(self, first: float, end: float) -> None:
        """Start the clock.

        Args:
            first: Time of the first frame that is looked at, in seconds of the video.
            end: Time of the last one; infinite if that is not known.
        """
        self.first, self.end = first, end
        self._began = self._told = time.monotonic()

    def is_due(self) -> bool:
        """Return whether it is time for news, and if so, start waiting for the next."""
        now = time.monotonic()
        due = now - self._told > NEWS_SECONDS
        self._told = now if due else self._told
        return due

    def news(self, at: float) -> str:
        """Return how far it is, and how long it still takes if that can be told.

        Args:
            at: Time of the frame that has just been predicted, in seconds of the video.
        """
        if not self.first < at < self.end < math.inf:
            return f"{at:.1f} s"
        left = (time.monotonic() - self._began) * (self.end - at) / (at - self.first)
        return f"{at:.1f} of {self.end:.1f} s, about {_spoken(left)} left"


def _spoken(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
