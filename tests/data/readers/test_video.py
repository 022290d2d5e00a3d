from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from src.data.faces.generator import draw_scene
from src.data.readers import video
from src.data.readers.containers import open_video
from src.data.readers.video import (
    Part,
    UnreadableVideo,
    _Decoder,
    read_video,
    sample_video,
    spread,
    video_seconds,
)
from src.inference import video_writer
from src.inference.video_writer import VideoWriter, choose_encoder
from src.utils.errors import ConfigError
from tests.helpers.full_disk import full_disk

RATE = 25


def shade(i):
    """An image whose brightness tells its number."""
    return np.full((96, 128, 3), 20 + 5 * i, np.uint8)


def write(path, images, times=None):
    times = [i / RATE for i in range(len(images))] if times is None else times
    with VideoWriter(path) as writer:
        for image, time in zip(images, times, strict=True):
            writer.write(image, time)
    return writer.path


def encode(path, images, pix_fmt="yuv444p", **options):
    """Write a film that the project's own writer would not."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    return path


def read_until_failure(path):
    """Return the frames and the reason why there are no more."""
    frames = []
    try:
        for frame in read_video(path):
            frames.append(frame)
    except UnreadableVideo as error:
        return frames, str(error)
    return frames, ""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(40)]
    return write(tmp_path_factory.mktemp("film") / "film", images)


@pytest.mark.parametrize("encoder", [entry[0] for entry in video_writer.ENCODERS])
def test_frames_and_their_times_survive(tmp_path, monkeypatch, encoder):
    monkeypatch.setattr(video_writer, "ENCODERS", [entry for entry in video_writer.ENCODERS if entry[0] == encoder])
    times = [0.0, 0.04, 0.5, 0.55, 0.9, 2.0, 2.01, 2.5]
    path = write(tmp_path / "film.mp4", [shade(i) for i in range(8)], times)
    frames = list(read_video(path))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert [round((frame.image.mean() - 20) / 5) for frame in frames] == list(range(8))
    assert {frame.source for frame in frames} == {str(path)}


def test_colors_are_rgb(tmp_path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 220
    (frame,) = read_video(write(tmp_path / "red", [red]))
    assert frame.image[32, 32, 0] > 200
    assert frame.image[32, 32, 1:].max() < 30


def test_odd_sizes(tmp_path):
    path = write(tmp_path / "odd", [np.zeros((97, 131, 3), np.uint8)])
    (frame,) = read_video(path)
    assert frame.image.shape == (96, 130, 3)
    path = encode(tmp_path / "odd.mkv", [np.full((97, 131, 3), 40 * i, np.uint8) for i in range(5)])
    frames = list(read_video(path))
    assert [frame.image.shape for frame in frames] == 5 * [(97, 131, 3)]
    assert [frame.time for frame in frames] == pytest.approx([i / RATE for i in range(5)], abs=1e-3)


def test_equal_times_are_written_all_the_same(tmp_path):
    assert len(list(read_video(write(tmp_path / "film", [shade(i) for i in range(4)], [0.0, 0.1, 0.1, 0.05])))) == 4


def test_a_film_of_a_turned_phone_is_upright(tmp_path):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :64] = 250  # bright on the left
    path = write(tmp_path / "phone", [image] * 3)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # of a header of version 0
    assert content[matrix : matrix + 4] == (1 << 16).to_bytes(4, "big")
    turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    path.write_bytes(content)
    frame = next(iter(read_video(path)))
    # Shown turned clockwise by a right angle, as players do: what was on the left is on top.
    assert frame.image.shape == (128, 64, 3)
    assert frame.image[:60].mean() > 240
    assert frame.image[70:].mean() < 10


def test_pixels_that_are_no_squares(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    path = encode(tmp_path / "wide.mp4", [image], sample_aspect_ratio=Fraction(4, 3))
    assert next(iter(read_video(path))).image.shape == (64, 128, 3)


@pytest.mark.parametrize("fraction", [0.2, 0.6, 0.8])
@pytest.mark.parametrize("encoder", [entry[0] for entry in video_writer.ENCODERS])
def test_a_film_that_breaks_off(tmp_path, monkeypatch, encoder, fraction):
    monkeypatch.setattr(video_writer, "ENCODERS", [entry for entry in video_writer.ENCODERS if entry[0] == encoder])
    rng = np.random.default_rng(0)
    path = write(tmp_path / "film", [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(60)])
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    frames, reason = read_until_failure(path)
    assert 0 < len(frames) < 60
    assert f"it breaks off after {len(frames)}" in reason


def test_a_film_with_a_hole(tmp_path, film):
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path = tmp_path / film.name
    path.write_bytes(content)
    frames, reason = read_until_failure(path)
    assert 20 <= len(frames) <= 40
    assert "broken" in reason
    assert frames[-1].time > 1.4  # it went on behind the hole


def test_what_is_no_film(tmp_path):
    cases = {"words.mp4": b"no film " * 500, "empty.mp4": b"", "head.mp4": b"\0\0\0\x20ftypisom" + bytes(500)}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        frames, reason = read_until_failure(tmp_path / name)
        assert frames == []
        assert "not a video, or of an unknown format" in reason
    assert read_until_failure(tmp_path / "nowhere.mp4") == ([], "missing")
    assert read_until_failure(tmp_path) == ([], "not a file")


def test_sound_without_images(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_until_failure(path) == ([], "it has no images, only sound or text")


def test_a_codec_that_nobody_knows(tmp_path, film):
    path = tmp_path / film.name
    path.write_bytes(film.read_bytes().replace(b"avc1", b"zzz1"))
    frames, reason = read_until_failure(path)
    assert frames == []
    assert "codec" in reason


@pytest.mark.parametrize("limit", [1000, 100_000, -1])
@pytest.mark.parametrize("encoder", [entry[0] for entry in video_writer.ENCODERS])
def test_a_full_disk_is_an_error_and_leaves_no_half_film(tmp_path, monkeypatch, encoder, limit):
    """The last limit is one byte less than the film."""
    monkeypatch.setattr(video_writer, "ENCODERS", [entry for entry in video_writer.ENCODERS if entry[0] == encoder])
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(30)]
    size = write(tmp_path / "film", frames).stat().st_size
    assert size > 100_000
    with full_disk(limit if limit > 0 else size - 1), pytest.raises(OSError, match="File too large"):
        write(tmp_path / "film", frames)
    assert not list(tmp_path.iterdir())


def test_the_second_encoder_serves_where_the_first_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, "codecs_available", {"libvpx-vp9"})
    assert choose_encoder() == ("libvpx-vp9", ".webm")
    assert write(tmp_path / "film.mp4", [draw_scene(0, 0, 64)[0]]).suffix == ".webm"
    monkeypatch.setattr(video_writer, "codecs_available", set())
    with pytest.raises(ConfigError, match=r"neither libx264 nor libvpx-vp9.*annotate=false"):
        choose_encoder()


def test_pixels_of_any_shape_take_no_memory(film):
    """30,000 times as wide as high: 96 x 128 pixels would be 96 x 3,840,000."""
    with open_video(film) as container:
        decoder = _Decoder("film", container)
        decoder.stream = SimpleNamespace(sample_aspect_ratio=Fraction(30_000, 1))
        with pytest.raises(UnreadableVideo, match="its frames have 3840000 x 96 pixels, more than"):
            decoder._upright(av.VideoFrame.from_ndarray(shade(0)))


def test_joined_streams_are_read_to_their_end_at_rising_times(tmp_path):
    """Two transport streams, one after the other, of two sizes, each with a clock of its own."""
    first = encode(tmp_path / "a.ts", [shade(i) for i in range(12)])
    second = encode(tmp_path / "b.ts", [np.full((48, 64, 3), 200, np.uint8) for _ in range(12)])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames, failure = read_until_failure(joined)
    assert failure == ""
    assert [frame.image.shape for frame in frames] == [(96, 128, 3)] * 12 + [(48, 64, 3)] * 12
    assert np.diff([frame.time for frame in frames]) == pytest.approx([1 / RATE] * 23, abs=1e-3)


def test_times_beyond_any_video_are_replaced(tmp_path, film, monkeypatch):
    monkeypatch.setattr(video, "MAX_SECONDS", 0.5)
    times = [frame.time for frame in read_video(film)]
    assert len(times) == 40
    assert max(times) < 2


@pytest.mark.parametrize(
    ("part", "indices"),
    [
        (Part(), range(40)),
        (Part(every_n=7), range(0, 40, 7)),
        (Part(every_n=99), [0]),
        (Part(start=0.4), range(10, 40)),
        (Part(end=0.4), range(11)),
        (Part(start=0.4, end=1.2, every_n=3), range(10, 31, 3)),
        (Part(start=0.41, end=0.45, every_n=3), [11]),
        (Part(end=99), range(40)),
    ],
)
def test_a_part_of_a_video(film, part, indices):
    whole = list(read_video(film))
    frames = list(read_video(film, part))
    assert [frame.index for frame in frames] == list(indices)
    assert [frame.time for frame in frames] == [whole[i].time for i in indices]
    assert all(np.array_equal(frame.image, whole[frame.index].image) for frame in frames)


def test_the_part_goes_by_times_where_the_rate_varies(tmp_path):
    times = [0.0, 0.1, 0.9, 1.0, 1.05, 4.0]
    path = write(tmp_path / "film", [shade(i) for i in range(6)], times)
    frames = list(read_video(path, Part(start=0.5, end=1.2)))
    assert [frame.index for frame in frames] == [2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx(times[2:5], abs=1e-3)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (Part(start=2, end=3), r"it has no frame at start=2 s or later, the last one is at 1\.56 s"),
        (Part(start=0.41, end=0.42), r"it has no frame from start=0\.41 s to end=0\.42 s"),
    ],
)
def test_a_part_without_frames_says_so(film, part, reason):
    with pytest.raises(UnreadableVideo, match=reason):
        list(read_video(film, part))


def test_damage_counts_up_to_the_end_of_the_part(tmp_path, film):
    content = film.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) // 2])
    assert "breaks off after" in read_until_failure(cut)[1]
    assert [frame.index for frame in read_video(cut, Part(end=0.2))] == list(range(6))
    with pytest.raises(UnreadableVideo, match="breaks off after"):
        list(read_video(cut, Part(start=1.5)))


def test_how_long_a_video_is(film, tmp_path):
    assert video_seconds(film) == pytest.approx(40 / RATE, abs=0.05)
    (tmp_path / "note.mp4").write_text("no video")
    assert video_seconds(tmp_path / "note.mp4") == 0
    assert video_seconds(tmp_path / "missing.mp4") == 0


def test_a_length_that_no_video_has_is_none(film, monkeypatch):
    monkeypatch.setattr(video, "MAX_SECONDS", 0.5)
    assert video_seconds(film) == 0


@pytest.mark.parametrize(("n_frames", "n", "expected"), [(40, 4, [5, 15, 25, 35]), (3, 5, [0, 1, 2]), (7, 1, [3])])
def test_numbers_are_spread_over_all_frames(n_frames, n, expected):
    assert spread(n_frames, n) == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])  # the second states no number of frames
def test_a_sample_is_from_all_over_a_video(tmp_path, suffix):
    path = encode(tmp_path / f"film{suffix}", [shade(i) for i in range(8)])
    frames = sample_video(path, 4)
    assert [frame.index for frame in frames] == [1, 3, 5, 7]
    assert [round((frame.image.mean() - 20) / 5) for frame in frames] == [1, 3, 5, 7]
    assert len(sample_video(path, 100)) == 8


def test_a_sample_of_a_video_that_breaks_off_is_refused(film, tmp_path):
    damaged = tmp_path / film.name
    damaged.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableVideo):
        sample_video(damaged, 2)
    with pytest.raises(UnreadableVideo, match="missing"):
        sample_video(tmp_path / "gone.mp4", 2)
