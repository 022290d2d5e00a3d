from fractions import Fraction

import av
import numpy as np
import pytest

from src.inference.sound import add_sound
from tests.data.readers.test_video import encode, shade, write

SECONDS, TONE = 2, 440


def film(path, kind="aac", rate=44_100, delay=0.0, **options):
    """Write two seconds of frames and of a tone that sounds in the second second alone, as telephones do."""
    with av.open(str(path), "w") as container:
        frames = container.add_stream("libx264", rate=25)
        frames.width, frames.height, frames.pix_fmt = 128, 96, "yuv420p"
        sound = container.add_stream(kind, rate=rate, **options)
        sound.layout = "mono"
        for i in range(25 * SECONDS):
            frame = av.VideoFrame.from_ndarray(shade(i % 40))
            container.mux(frames.encode(frame))
        container.mux(frames.encode(None))
        time = np.arange(SECONDS * rate) / rate
        samples = (0.5 * np.sin(2 * np.pi * TONE * time) * (time >= 1)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, round(delay * rate), Fraction(1, rate)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def heard(path):
    """Return the sound of a file: its times in seconds, and its loudness there."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        first = container.streams.video[0].start_time * container.streams.video[0].time_base
    times = np.array([float(frame.time - first) for frame in frames])
    return times, np.array([np.abs(frame.to_ndarray()).mean() for frame in frames])


@pytest.fixture
def annotated(tmp_path):
    return write(tmp_path / "annotated", [shade(i % 40) for i in range(50)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {"kind": "libopus", "rate": 48_000}),
        ("a.avi", {"kind": "pcm_s16le"}),
        ("a.mov", {"kind": "mp3"}),
    ],
)
def test_the_sound_is_kept_in_time(tmp_path, annotated, name, options):
    frames = count(annotated)
    assert add_sound(annotated, film(tmp_path / name, **options), 0.0, 2.0)
    times, loudness = heard(annotated)
    assert times[-1] == pytest.approx(2, abs=0.1)
    assert times[loudness > 0.1 * loudness.max()].min() == pytest.approx(1, abs=0.06)
    assert count(annotated) == frames
    assert [path.name for path in tmp_path.iterdir() if "with_sound" in path.name] == []


def count(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_part_has_its_part_of_the_sound(tmp_path, annotated):
    """From 0.6 to 1.6 s: the tone begins after 0.4 s."""
    assert add_sound(annotated, film(tmp_path / "a.mp4"), 0.6, 1.6)
    times, loudness = heard(annotated)
    assert times[-1] == pytest.approx(1.0, abs=0.06)
    assert times[loudness > 0.1 * loudness.max()].min() == pytest.approx(0.4, abs=0.06)


def test_where_there_is_no_sound_the_file_stays(tmp_path, annotated):
    before = annotated.read_bytes()
    assert not add_sound(annotated, encode(tmp_path / "mute.mp4", [shade(i) for i in range(9)], "yuv420p"), 0.0, 1.0)
    assert not add_sound(annotated, film(tmp_path / "a.mp4"), 5.0, 6.0)
    assert annotated.read_bytes() == before


def test_damaged_sound_is_left_out(tmp_path, annotated, caplog):
    path = film(tmp_path / "a.avi", kind="mp3")
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)
    path.write_bytes(content)
    frames = count(annotated)
    add_sound(annotated, path, 0.0, 2.0)
    assert count(annotated) == frames
