"""Landmarks of a data set's images from a file beside it, by image id."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.readers.archives import open_table
from src.data.store.packed_store import Record, Skipped
from src.utils.arrays import read_arrays
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

N_POINTS = 68
EXPECTED = (
    "an .npz with ids (N,), points (N, 68, 2) and, if wanted, plausible (N,), or a .csv with the columns "
    "id,x0,y0,...,x67,y67; x and y are fractions of the image's width and height"
)
# Of a packed file: landmarks are numbers without much pattern.
MAX_RATIO = 20
# Points of a face that is cut by the edge lie outside, but not by more than another image; pixels would.
LARGEST = 3.0

Points = NDArray[np.float32]


def landmark_path(path: str) -> Path:
    """Return the file of `data.landmarks_path`.

    Raises:
        ConfigError: If it is none.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"data.landmarks_path={path} is no file; expected {EXPECTED}.")
    return file


class LandmarkFile:
    """The 68 iBUG points of images, by id; those of images without any, or with implausible ones, are left out.

    Attributes:
        points: Id -> x and y in fractions of the image's width and height, 0 being the left or upper edge, (68, 2);
            points outside the image are below 0 or above 1.
        n_implausible: Number of images whose points the file calls implausible.
    """

    def __init__(self, path: str) -> None:
        """Read the file.

        Args:
            path: `data.landmarks_path`.

        Raises:
            ConfigError: If it does not exist, or is no such file.
        """
        self.path, file = path, landmark_path(path)
        try:
            ids, points, plausible = (_read_csv if file.suffix.lower() == ".csv" else _read_npz)(file)
            points = _checked(ids, points, plausible)
        except (OSError, ValueError, IndexError) as error:
            raise ConfigError(f"data.landmarks_path={path}: {error}; expected {EXPECTED}.") from error
        known = ~np.isnan(points).any(axis=(1, 2))
        self.n_implausible = int((known & ~plausible).sum())
        kept = np.flatnonzero(known & plausible)
        self.points: dict[str, Points] = dict(zip(ids[kept].tolist(), points[kept], strict=True))

    def added_to(self, entries: Iterable[Record | Skipped]) -> Iterator[Record | Skipped]:
        """Yield the images of a data set with their points, and say how many have some.

        Raises:
            ConfigError: If the file has points of none of them.
        """
        n, with_points, last = 0, 0, ""
        for entry in entries:
            if isinstance(entry, Record):
                n, last = n + 1, entry.id
                points = self.points.get(entry.id)
                if points is not None:
                    with_points += 1
                    # Fractions count from edges, pixels from the center of the first one.
                    size = np.array(entry.image.shape[1::-1], dtype=np.float32)
                    entry = replace(entry, landmarks=points * size - np.float32(0.5))
            yield entry
        if n and not with_points:
            raise ConfigError(
                f"data.landmarks_path={self.path} has no plausible points of any image: its ids are such as "
                f"{next(iter(self.points), 'none at all')!r}, those of the images such as {last!r}. Give it the ids of "
                "predictions.csv."
            )
        log.info(
            "Landmarks: %s of %s images have some; %s in the file are implausible and left out.",
            *(f"{count:,}" for count in (with_points, n, self.n_implausible)),
        )


def _read_npz(file: Path) -> tuple[NDArray[np.str_], Points, NDArray[np.bool_]]:
    arrays = read_arrays(file, MAX_RATIO)
    for name in ("ids", "points"):
        if name not in arrays:
            raise ValueError(f"it has no {name}")
    ids, points = arrays["ids"].astype(np.str_), arrays["points"].astype(np.float32)
    plausible = arrays["plausible"].astype(bool) if "plausible" in arrays else np.ones(len(ids), bool)
    return ids, points, plausible


def _read_csv(file: Path) -> tuple[NDArray[np.str_], Points, NDArray[np.bool_]]:
    columns = ["id", *(f"{axis}{i}" for i in range(N_POINTS) for axis in "xy")]
    with open_table(file, "data.landmarks_path", EXPECTED) as rows:
        header: list[str] = next(rows, [])
        missing = set(columns) - set(header)
        if missing:
            raise ValueError(f"it has no column {min(missing)}")
        places = [header.index(column) for column in columns]
        table = [[row[place] for place in places] for row in rows if row]
    ids = np.array([row[0] for row in table], dtype=np.str_)
    values = np.array([[float(value or "nan") for value in row[1:]] for row in table], dtype=np.float32)
    return ids, values.reshape(-1, N_POINTS, 2), np.ones(len(ids), bool)


def _checked(ids: NDArray[np.str_], points: Points, plausible: NDArray[np.bool_]) -> Points:
    """Return the points, if they are such of these images.

    Raises:
        ValueError: If not.
    """
    shapes = (ids.shape, points.shape, plausible.shape)
    if shapes != ((len(ids),), (len(ids), N_POINTS, 2), (len(ids),)):
        raise ValueError(f"ids, points and plausible have the shapes {', '.join(map(str, shapes))}")
    names, counts = np.unique(ids, return_counts=True)
    if len(names) < len(ids):
        raise ValueError(f"the id {names[counts > 1][0]} is there {counts.max()} times")
    if np.isinf(points).any():
        raise ValueError("points are infinite")
    far = np.abs(points[plausible])
    if far.size and np.nanmax(far, initial=0) > LARGEST:
        raise ValueError(f"a coordinate is {np.nanmax(far):g} images away; pixels?")
    return points
