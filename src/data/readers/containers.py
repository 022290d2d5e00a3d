"""Opens video files that may be anyone's: nothing but the file itself is read, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

# FFmpeg's demuxers of files that hold their own frames. All others are left out, above all those of lists (hls, concat,
# dash, sdp), which open further files and addresses, and those that take any text for frames (tty).
DEMUXERS = (
    *("mov", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg", "ogg", "rm", "mxf", "dv", "wtv", "ivf"),
    *("nut", "gif", "apng", "yuv4mpegpipe"),
    *("h264", "hevc", "av1", "obu", "m4v", "mpegvideo", "mjpeg"),  # streams without a container, as cameras write them
)
# What files of moving images are called.
VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    *(".m2ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"),
}
# 8K; a frame of it takes 100 MB as RGB, and decoders keep a dozen or more in half of that.
MAX_FRAME_PIXELS = 2**25
# Seconds that opening a file, and reading a packet of it, may take: FFmpeg looks at the clock between two reads.
TIMEOUT = (30.0, 30.0)
# Decoders refuse larger frames before they have memory for them.
DECODER = {"max_pixels": str(MAX_FRAME_PIXELS)}
OPTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "protocol_whitelist": "file",
    # FFmpeg's own values, said here because they bound what opening reads: bytes, and microseconds of the video.
    "probesize": "5000000",
    "analyzeduration": "5000000",
}


def open_video(path: Path) -> InputContainer:
    """Open a file.

    Args:
        path: File that exists.

    Raises:
        av.FFmpegError: If it is none of the `DEMUXERS`' kinds, or broken, or takes too long.
        OSError: If it cannot be read.
    """
    # Absolute, lest a name such as `concat:a` is taken for an address.
    # Nobody reads titles and the like, which may be no text.
    options = {**OPTIONS, **DECODER}
    return av.open(str(path.absolute()), options=options, timeout=TIMEOUT, metadata_errors="replace")


def why_too_large(width: int, height: int) -> str:
    """Return why frames of a size in pixels are refused, as a clause; empty if they are not."""
    if width * height <= MAX_FRAME_PIXELS:
        return ""
    return f"its frames have {width} x {height} pixels, more than {MAX_FRAME_PIXELS:,}"
