"""Who was seen in a video, and what their faces said over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from src.inference.cards import class_color
from src.inference.results import AFFECT, FacePrediction, Prediction

# Frames are summed up in steps of so many seconds at first; where a person takes more steps than these, they are made
# twice as long, so that memory and figure stay small however long the video is.
FIRST_STEP = 0.125
MAX_STEPS = 512
# People of the figure, those seen well in most frames.
MAX_SHOWN = 6
# Lines of fewer points mark each of them.
FEW_POINTS = 40
# Columns of people.csv before the classes.
PERSON = ("source", "track", "first", "last", "frames", "trusted_frames", "prediction")
AFFECT_COLORS = {"valence": "tab:green", "arousal": "tab:red"}
UNTRUSTED = "0.88"
Floats = NDArray[np.float64]


@dataclass
class Person:
    """A track of a video.

    Attributes:
        first: When the person was first seen, in seconds.
        last: When last.
        frames: In how many frames.
        trusted: In how many of them the prediction is to be trusted.
        step: Seconds of a step.
    """

    first: float
    last: float
    frames: int = 0
    trusted: int = 0
    step: float = FIRST_STEP
    # By step: how many of its frames are trusted, and the sums of what these say.
    _sums: dict[int, Floats] = field(default_factory=dict)

    def add(self, face: FacePrediction, time: float) -> None:
        """Add what is said of the person at a time."""
        self.last, self.frames = time, self.frames + 1
        affect = [np.nan if value is None else value for value in (face.valence, face.arousal)]
        values = np.array([1.0, *face.probabilities.values(), *affect])
        if face.reasons:
            values = np.zeros_like(values)
        self.trusted += not face.reasons
        self._add(int(time // self.step), values)
        if len(self._sums) > MAX_STEPS:
            steps, self._sums, self.step = self._sums, {}, 2 * self.step
            for step, sums in steps.items():
                self._add(step // 2, sums)

    def _add(self, step: int, values: Floats) -> None:
        self._sums[step] = self._sums.get(step, 0.0) + values

    def means(self) -> Floats:
        """Return the means over trusted frames of class probabilities, valence and arousal, (K + 2,)."""
        total = np.sum(list(self._sums.values()), axis=0)
        return np.asarray(total[1:] / total[0])

    def stretches(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield the stretches of time over which predictions are to be trusted.

        Yields:
            Seconds (T,), and the means of class probabilities, valence and arousal at them, (T, K + 2).
        """
        trusted: list[int] = []
        for step in [*sorted(self._sums), None]:
            if step is not None and self._sums[step][0]:
                trusted.append(step)
            elif trusted:
                means = np.array([self._sums[one][1:] / self._sums[one][0] for one in trusted])
                middles = (np.array(trusted) + 0.5) * self.step
                # To the edges of the outer steps: a single one has a width, too.
                times = np.array([trusted[0] * self.step, *middles, (trusted[-1] + 1) * self.step])
                yield times, np.concatenate([means[:1], means, means[-1:]])
                trusted = []


class People:
    """The people of one video, by the numbers of their tracks."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Start without anybody.

        Args:
            class_names: The model's classes.
        """
        self.class_names = tuple(class_names)
        self.known: dict[int, Person] = {}

    def add(self, prediction: Prediction) -> None:
        """Add a frame, its faces with tracks."""
        time = prediction.frame.time or 0.0
        for face in prediction.faces:
            if face.track is not None:
                self.known.setdefault(face.track, Person(time, time)).add(face, time)

    def rows(self, source: str) -> list[dict[str, Any]]:
        """Return a row of `people.csv` for each person; means are over frames whose predictions are to be trusted.

        Args:
            source: The video's name.
        """
        rows = []
        for track, person in sorted(self.known.items()):
            row: dict[str, Any] = {"source": source, "track": track, "first": round(person.first, 4)}
            row |= {"last": round(person.last, 4), "frames": person.frames, "trusted_frames": person.trusted}
            if person.trusted:
                means = person.means()
                values = [None if np.isnan(value) else round(float(value), 6) for value in means]
                row["prediction"] = self.class_names[int(np.argmax(means[: len(self.class_names)]))]
                row |= dict(zip((*self.class_names, *AFFECT), values, strict=True))
            rows.append(row)
        return rows

    def draw(self) -> Figure | None:
        """Draw the class probabilities of each person as bands over time, valence and arousal as lines below.

        Returns:
            The figure, or None if there is nobody whose predictions are to be trusted.
        """
        seen = [(track, person) for track, person in self.known.items() if person.trusted]
        shown = sorted(sorted(seen, key=lambda item: -item[1].trusted)[:MAX_SHOWN], key=lambda item: item[0])
        if not shown:
            return None
        has_affect = not any(np.isnan(person.means()).any() for _, person in shown)
        heights = [2.0, 1.2] if has_affect else [2.0]
        figure = Figure(figsize=(11, 1.2 + 0.85 * sum(heights) * len(shown)), layout="constrained")
        ratios = heights * len(shown)
        axes = figure.subplots(len(ratios), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
        for i, (track, person) in enumerate(shown):
            rows = axes[len(heights) * i : len(heights) * (i + 1)]
            self._draw_bands(rows[0], person)
            rows[0].set_title(f"person {track}", loc="left", fontsize=10, fontweight="bold")
            if has_affect:
                self._draw_affect(rows[1], person)
        axes[0].set_xlim(*_limits([person for _, person in shown]))
        axes[-1].set_xlabel("seconds")
        if len(shown) < len(self.known):
            chosen = f"{len(shown)} of {len(self.known)} people, those seen well most often"
            axes[0].set_title(chosen, loc="right", fontsize=10)
        self._add_legend(figure, [person for _, person in shown], has_affect)
        return figure

    def _colors(self) -> list[str]:
        colors = (class_color(name, self.class_names) for name in self.class_names)
        return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors]

    def _draw_bands(self, axis: Axes, person: Person) -> None:
        axis.axvspan(person.first, person.last, color=UNTRUSTED, linewidth=0)
        for times, values in person.stretches():
            axis.stackplot(times, values[:, : len(self.class_names)].T, colors=self._colors(), linewidth=0)
        axis.set(ylim=(0, 1), yticks=(0, 0.5, 1), yticklabels=("0", "50 %", "100 %"))
        axis.spines[["top", "right"]].set_visible(False)

    def _draw_affect(self, axis: Axes, person: Person) -> None:
        axis.axhline(0, color="0.8", linewidth=0.8)
        stretches = list(person.stretches())
        few = sum(len(times) for times, _ in stretches) < FEW_POINTS
        # The first and the last of a stretch are its edges.
        points: dict[str, Any] = {"marker": ".", "markevery": slice(1, -1)} if few else {}
        for times, values in stretches:
            for i, color in enumerate(AFFECT_COLORS.values()):
                axis.plot(times, values[:, len(self.class_names) + i], color=color, linewidth=1.3, **points)
        axis.set(ylim=(-1, 1), yticks=(-1, 0, 1))
        axis.spines[["top", "right"]].set_visible(False)

    def _add_legend(self, figure: Figure, shown: Sequence[Person], has_affect: bool) -> None:
        handles: list[Any] = [
            Patch(color=color, label=name) for name, color in zip(self.class_names, self._colors(), strict=True)
        ]
        if any(person.trusted < person.frames for person in shown):
            handles.append(Patch(color=UNTRUSTED, label="not to be trusted"))
        if has_affect:
            handles += [Line2D([], [], color=color, label=name) for name, color in AFFECT_COLORS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)


def _limits(shown: Sequence[Person]) -> tuple[float, float]:
    """Return what time the figure spans; more than none for a single frame."""
    first, last = min(person.first for person in shown), max(person.last for person in shown)
    return first, max(last, first + FIRST_STEP)
