"""The sound of a video, beside the frames that were drawn on."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from src.data.readers.containers import open_video

log = logging.getLogger(__name__)

# Codec of the sound by the suffix of the container, which browsers play, and its rate.
CODECS = {".mp4": "aac", ".webm": "libopus"}
RATE = 48_000
# What a disk says that takes no more: that is no fault of the sound.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def add_sound(video: Path, source: Path, start: float, end: float) -> bool:
    """Put the sound of a video into one that was made of its frames, from `start` to `end`.

    Args:
        video: The file without sound, which is replaced.
        source: The video that it was made of.
        start: Its time in `source` at which it starts, in seconds since the first frame there.
        end: Its time there at which it ends.

    Returns:
        Whether there was any sound that can be read.
    """
    whole = video.with_name(f"{video.stem}_with_sound{video.suffix}")
    try:
        with open_video(source) as heard:
            if not heard.streams.audio or not _copy(video, heard, whole, start, end):
                return False
        whole.replace(video)
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        log.warning("%s: its sound is left out (%s)", source, error)
        return False
    finally:
        whole.unlink(missing_ok=True)
    return True


def _copy(video: Path, heard: InputContainer, whole: Path, start: float, end: float) -> bool:
    """Write frames and sound, in the order of their times."""
    options = {"movflags": "faststart"} if whole.suffix == ".mp4" else {}
    with av.open(str(video)) as seen, av.open(str(whole), "w", options=options) as container:
        frames = container.add_stream_from_template(seen.streams.video[0])
        sound = cast(AudioStream, container.add_stream(CODECS[whole.suffix], rate=RATE))
        sound.layout = "stereo"
        packets = _sound(heard, sound, start, end)
        waiting = next(packets, None)
        if waiting is None:
            return False
        for packet in seen.demux(seen.streams.video[0]):
            if packet.dts is None:  # the end
                continue
            while waiting is not None and _seconds(waiting) <= _seconds(packet):
                container.mux(waiting)
                waiting = next(packets, None)
            packet.stream = frames
            container.mux(packet)
        for last in (waiting, *packets):
            if last is not None:
                container.mux(last)
    return True


def _sound(heard: InputContainer, sound: AudioStream, start: float, end: float) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of the sound, encoded, at times since `start`."""
    first = _first_frame(heard)
    resampler = AudioResampler(format=sound.codec_context.format, layout="stereo", rate=RATE)
    samples = 0
    for frame in heard.decode(audio=0):
        time = float(frame.time or 0.0) - first
        if time + frame.samples / frame.sample_rate <= start:
            continue
        # Times that stand still would make sound without end.
        if time >= end or samples >= (end - start + 1) * RATE:
            break
        for part in resampler.resample(frame):
            # Sound that begins before the frames, or has holes, keeps its place.
            samples = max(samples, round((time - start) * RATE))
            part.pts, part.time_base = samples, Fraction(1, RATE)
            samples += part.samples
            yield from sound.encode(part)
    yield from sound.encode(None)


def _first_frame(heard: InputContainer) -> float:
    """Return the time of the first frame in the file's clock, in seconds."""
    stream = heard.streams.video[0]
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _seconds(packet: Packet[Any]) -> float:
    place = packet.dts if packet.dts is not None else packet.pts
    return float((place or 0) * packet.time_base)
