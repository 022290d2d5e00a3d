"""Videos, written a frame at a time with PyAV, that browsers play."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.codec import codecs_available
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from src.data.readers.video import DEFAULT_RATE
from src.inference.results import Image
from src.utils.errors import ConfigError

# Encoder and container, the first choice first; browsers play both.
ENCODERS = (("libx264", ".mp4"), ("libvpx-vp9", ".webm"))
OPTIONS: dict[str, dict[str, object]] = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "6"},
}
# Time stamps are multiples of this, the usual clock of video streams.
TIME_BASE = Fraction(1, 90_000)


class VideoWriter:
    """Writes a video that browsers play: H.264 in MP4 or, where PyAV has no such encoder, VP9 in WebM.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Choose the encoder; the file is made by the first frame.

        Args:
            path: File to write; its suffix becomes that of the container.

        Raises:
            ConfigError: If this build of PyAV has neither encoder.
        """
        self._encoder, suffix = choose_encoder()
        self.path = path.with_suffix(suffix)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, image: Image, time: float) -> None:
        """Add a frame.

        Args:
            image: RGB, (H, W, 3), of the size of the first frame; odd sides lose a pixel, as the encoders need.
            time: Seconds since the first frame, more than that of the frame before.

        Raises:
            OSError: If the disk takes no more; the file is removed.
        """
        with self._nothing_half_written():
            self._encode(image, time)

    def _encode(self, image: Image, time: float) -> None:
        if self._stream is None or self._container is None:
            self._container = av.open(str(self.path), "w", options=_container_options(self.path.suffix))
            # The rate is a hint only: the frames' time stamps count.
            stream = cast(VideoStream, self._container.add_stream(self._encoder, rate=DEFAULT_RATE))
            stream.options = OPTIONS[self._encoder]
            stream.height, stream.width = (side - side % 2 for side in image.shape[:2])
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = TIME_BASE
            self._stream = stream
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image[: self._stream.height, : self._stream.width]))
        # Equal or falling times, as broken videos have them, cannot be encoded.
        self._last = max(self._last + 1, round(time / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: If the disk takes no more; the file is removed.
        """
        if self._container is not None and self._stream is not None:
            with self._nothing_half_written():
                self._container.mux(self._stream.encode(None))
                self._container.close()
            self._container = None

    @contextmanager
    def _nothing_half_written(self) -> Iterator[None]:
        """Remove the file if it cannot be written: without its end, it does not play."""
        try:
            yield
        except OSError:
            container, self._container = self._container, None
            with suppress(av.FFmpegError, OSError):
                if container is not None:
                    container.close()
            self.path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> VideoWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; what is written so far plays even after a failure."""
        self.close()


def choose_encoder() -> tuple[str, str]:
    """Return the encoder and the suffix of the container.

    Raises:
        ConfigError: If this build of PyAV has none that browsers play.
    """
    for encoder, suffix in ENCODERS:
        if encoder in codecs_available:
            return encoder, suffix
    names = " nor ".join(encoder for encoder, _ in ENCODERS)
    raise ConfigError(
        f"this build of PyAV has neither {names}, one of which annotated videos need; install the published one with "
        "pip install --force-reinstall --only-binary=:all: av, or set annotate=false."
    )


def _container_options(suffix: str) -> dict[str, str]:
    # The index at the start lets a browser play the file before it is loaded.
    return {"movflags": "faststart"} if suffix == ".mp4" else {}
