"""Videos, read a frame at a time with PyAV; every frame keeps its time, whatever the frame rate does."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from src.data.readers.containers import DECODER, MAX_FRAME_PIXELS, open_video, why_too_large
from src.data.readers.frames import Frame

# A container that does not count its frames may state a length that is too large by as many seconds.
TOLERANCE = 0.1
DEFAULT_RATE = 25
# What PyAV raises on damaged files: FFmpeg's errors, and what comes of times and texts that Python cannot hold.
DAMAGED = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, LookupError, TypeError)
# A month; frames later than that have a damaged time, which no encoder takes.
MAX_SECONDS = 30 * 86_400.0


class UnreadableVideo(Exception):
    """A video that cannot be read, or not to its end; the message is the reason."""


@dataclass(frozen=True)
class Part:
    """Which frames of a video are looked at.

    Attributes:
        start: Time of the first one, in seconds; those before are decoded, so that numbers and times stay right.
        end: Time after which there are no more; None for the end of the video.
        every_n: Of so many frames from `start` on, the first is looked at.
        numbers: Numbers of the frames that are looked at, of those; None for all.
    """

    start: float = 0.0
    end: float | None = None
    every_n: int = 1
    numbers: Container[int] | None = None


WHOLE = Part()


def video_seconds(path: Path) -> float:
    """Return how long a video says that it is, in seconds; 0 if it does not say so, or cannot be read."""
    if not path.is_file():  # a pipe waits for its other end
        return 0.0
    try:
        with open_video(path) as container:
            seconds = (container.duration or 0) / av.time_base
    except DAMAGED:
        return 0.0
    return seconds if 0 < seconds < MAX_SECONDS else 0.0


def sample_video(path: Path, n: int) -> list[Frame]:
    """Read frames from all over a video: each from the middle of one of equal parts.

    Args:
        path: File of any of the kinds of `src.data.readers.containers`.
        n: How many; all of a video that has fewer.

    Raises:
        UnreadableVideo: If there is none to be had, it breaks off, or parts of it are broken.
    """
    return list(read_video(path, Part(numbers=spread(_n_frames(path), n))))


def spread(n_frames: int, n: int) -> list[int]:
    """Return the numbers, from 0 up, of n of so many frames, each in the middle of one of n equal parts."""
    n = min(n, n_frames)
    return [(2 * i + 1) * n_frames // (2 * n) for i in range(n)]


def _n_frames(path: Path) -> int:
    """Return how many frames a video has, by its packets: nothing is decoded. What cannot be read has 1."""
    if not path.is_file():
        return 1
    try:
        with open_video(path) as container:
            return max(1, sum(packet.size > 0 for packet in container.demux(video=0)))
    except DAMAGED:
        return 1


def read_video(path: Path, part: Part = WHOLE) -> Iterator[Frame]:
    """Read a video.

    Args:
        path: File of any of the kinds of `src.data.readers.containers`.
        part: Which of its frames.

    Yields:
        Frames upright and with square pixels, their times in seconds since the first one.

    Raises:
        UnreadableVideo: If there is none to be had. If it breaks off before the part's end, or parts of it are broken,
            all frames that can be read are yielded before.
    """
    if not path.is_file():
        raise UnreadableVideo("missing" if not path.exists() else "not a file")
    try:
        container = open_video(path)
    except DAMAGED as error:
        raise UnreadableVideo(f"not a video, or of an unknown format ({_reason(error)})") from None
    with container:
        yield from decode(str(path), container, part)


def decode(source: str, container: InputContainer, part: Part = WHOLE) -> Iterator[Frame]:
    """Read the video of an open container, see `read_video`.

    Args:
        source: What its frames are said to come from.
        container: The container.
        part: Which of its frames.
    """
    if not container.streams.video:
        raise UnreadableVideo("it has no images, only sound or text")
    yield from _Decoder(source, container, part).frames()


class _Decoder:
    """Decodes one stream, and notices what is missing of it."""

    def __init__(self, source: str, container: InputContainer, part: Part = WHOLE) -> None:
        self.source, self.container, self.part = source, container, part
        self.stream = container.streams.video[0]
        self.stream.thread_type = "AUTO"
        if self.stream.codec_context is not None:  # there is none without a decoder
            self.stream.codec_context.options = DECODER
        self.count, self.inside, self.broken, self.last = 0, 0, 0, 0.0
        self._first: float | None = None

    def frames(self) -> Iterator[Frame]:
        """Yield all frames of the part that can be decoded, then complain of the others."""
        context = self.stream.codec_context
        if context is None or not context.width:
            raise UnreadableVideo(
                f"its frames have more than {MAX_FRAME_PIXELS:,} pixels, its header is broken, or its codec is unknown "
                "to this build of PyAV"
            )
        _check_size(context.width, context.height)
        failure = ""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except DAMAGED as error:
                failure = _reason(error)
                break
            if packet is None:
                break
            try:
                for frame in packet.decode():
                    self._tell_time(frame)
                    if self.part.end is not None and self.last > self.part.end:
                        self._check_broken(failure)
                        self._check_part(ended=False)
                        return
                    if self._is_looked_at():
                        yield Frame(self.source, self._upright(frame), self.count, self.last)
                    self.count += 1
            except DAMAGED as error:
                self.broken += 1
                failure = _reason(error)
        self._check_broken(failure)
        self._check_end(failure)
        self._check_part(ended=True)

    def _is_looked_at(self) -> bool:
        if self.last < self.part.start:
            return False
        self.inside += 1
        if self.part.numbers is not None and self.count not in self.part.numbers:
            return False
        return (self.inside - 1) % self.part.every_n == 0

    def _tell_time(self, frame: VideoFrame) -> None:
        step = 1 / float(self.stream.average_rate or DEFAULT_RATE)
        known = frame.pts is not None and frame.time_base is not None
        time = frame.time if known else (self._first or 0.0) + self.last + step
        self._first = time if self._first is None else self._first
        elapsed = time - self._first
        if not self.last <= elapsed < MAX_SECONDS:
            # Videos that were joined have clocks of their own; times rise all the same.
            elapsed = self.last + step * bool(self.count)
            self._first = time - elapsed
        self.last = elapsed

    def _upright(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return the pixels as they are to be shown."""
        ratio = float(self.stream.sample_aspect_ratio or 1) or 1.0
        size = (max(1, round(frame.width * ratio)), frame.height)
        _check_size(*size)
        image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        if ratio != 1:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))

    def _check_part(self, *, ended: bool) -> None:
        """Raise if none of the video's frames is in the part."""
        start, end = self.part.start, self.part.end
        if not self.inside and ended:
            raise UnreadableVideo(
                f"it has no frame at start={start:g} s or later, the last one is at {self.last:.2f} s"
            )
        if not self.inside:
            raise UnreadableVideo(f"it has no frame from start={start:g} s to end={end:g} s")

    def _check_broken(self, failure: str) -> None:
        """Raise if nothing was decoded, or not all of what was read."""
        if not self.count:
            raise UnreadableVideo(f"no frame of it can be decoded ({failure or 'it is empty'})")
        if self.broken:
            raise UnreadableVideo(f"{self.broken} parts of it are broken ({failure}); {self.count} frames were read")

    def _check_end(self, failure: str) -> None:
        """Raise if the video has fewer frames, or is shorter, than it states."""
        stated, n_stated = self._stated_seconds(), self.stream.frames
        short = self.last + (TOLERANCE if not n_stated else 0) < stated
        # The last frame of a screen recording may be shown for long, and trimming hides frames: both must be too few.
        if failure or (short and (not n_stated or self.count < n_stated)):
            expected = f" of {n_stated}" if n_stated else ""
            length = f" of {stated:.2f} s" if stated else ""
            raise UnreadableVideo(f"it breaks off after {self.count}{expected} frames, {self.last:.2f} s{length}")

    def _stated_seconds(self) -> float:
        """Return when the last frame is to begin according to the container, 0 if that does not tell."""
        length = 0.0
        if self.stream.duration is not None and self.stream.time_base is not None:
            length = float(self.stream.duration * self.stream.time_base)
        elif self.container.duration is not None and len(self.container.streams) == 1:
            length = self.container.duration / av.time_base
        return max(0.0, length - 1.5 / float(self.stream.average_rate or DEFAULT_RATE))


def _check_size(width: int, height: int) -> None:
    reason = why_too_large(width, height)
    if reason:
        raise UnreadableVideo(reason)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
