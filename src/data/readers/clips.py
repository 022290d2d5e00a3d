"""Clips, which are videos or folders of frames: finding them in class folders, and reading some of their frames."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from src.data.readers.class_folders import SUFFIXES, Entry
from src.data.readers.containers import VIDEO_SUFFIXES
from src.data.readers.file_tree import TreeFile
from src.data.readers.images import UnreadableImage, decode_image, shrink
from src.data.readers.video import UnreadableVideo, sample_video, spread
from src.data.store.packed_store import Record, Skipped

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        id: Its path in the data set.
        entry: Its file, or the first one of its frames, with its class and split.
        frames: Its frames in their order; empty for a video.
    """

    id: str
    entry: Entry
    frames: tuple[TreeFile, ...] = ()


def list_clips(entries: Sequence[Entry]) -> tuple[list[Clip], list[Skipped]]:
    """Find the clips among the files of class folders: every video, and every folder below that holds images.

    Args:
        entries: The files.

    Returns:
        The clips by path, and images that are in no folder of a clip.
    """
    clips: list[Clip] = []
    skipped: list[Skipped] = []
    folders: defaultdict[str, list[Entry]] = defaultdict(list)
    others: Counter[str] = Counter()
    for entry in entries:
        path = PurePosixPath(entry.file.path)
        suffix = path.suffix.lower()
        depth = len(path.parts) - (entry.split is not None)
        if suffix in VIDEO_SUFFIXES:
            clips.append(Clip(entry.file.path, entry))
        elif suffix not in SUFFIXES:
            others[suffix or path.name] += 1
        elif depth == 2:
            skipped.append(Skipped(entry.file.path, "an image in no clip's folder"))
        else:
            folders[str(path.parent)].append(entry)
    for folder, frames in folders.items():
        frames.sort(key=lambda entry: _in_order(entry.file.path))
        clips.append(Clip(folder, frames[0], tuple(entry.file for entry in frames)))
    for kind, n in others.items():
        log.warning("%d files %s in class folders are left out: neither videos nor images", n, kind)
    return sorted(clips, key=lambda clip: clip.id), skipped


def _in_order(path: str) -> list[tuple[int, str]]:
    """Return what sorts frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def read_clip(clip: Clip, n: int, cut: Callable[[Pixels], Pixels | None] | None) -> Iterator[Record | Skipped]:
    """Read frames from all over a clip, each from the middle of one of n equal parts; fewer of a shorter clip.

    The id of a frame is that of the clip, `#`, and its number from 0 up.

    Args:
        clip: The clip, with its split.
        n: How many frames.
        cut: Returns the face of RGB pixels (H, W, 3), or None if there is none; None to keep frames whole.

    Yields:
        The frames, or why one has no image; of a video that is damaged anywhere, that alone.
    """
    for number, frame in _frames(clip, n):
        id = f"{clip.id}#{number}"
        pixels = frame if isinstance(frame, str) else _cut(frame, cut)
        if pixels is None:
            yield Skipped(id, "no face was found")
        elif isinstance(pixels, str):
            yield Skipped(clip.id if number is None else id, pixels)
        else:
            yield Record(id, clip.entry.split or "train", clip.entry.label, shrink(pixels))


def _frames(clip: Clip, n: int) -> Iterator[tuple[int | None, Pixels | str]]:
    """Yield the numbers and pixels of frames; instead of pixels, the reason why there are none."""
    if not clip.frames:
        try:
            if clip.entry.file.location is None:
                raise UnreadableVideo("within an archive, which has to be unpacked")
            yield from ((frame.index, frame.image) for frame in sample_video(clip.entry.file.location, n))
        except UnreadableVideo as error:
            yield None, str(error)
    for number in spread(len(clip.frames), n):
        file = clip.frames[number]
        try:
            yield number, decode_image(file.read())
        except UnreadableImage as error:
            yield number, f"{PurePosixPath(file.path).name}: {error}"


def _cut(frame: Pixels, cut: Callable[[Pixels], Pixels | None] | None) -> Pixels | None:
    if cut is None:
        return frame
    if frame.ndim == 3:
        return cut(frame)
    face = cut(np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB), np.uint8))
    return None if face is None else face[..., 0]
