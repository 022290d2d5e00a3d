"""Files that may be anyone's: which are opened, and what opening may cost."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from src.data.readers import containers
from src.data.readers.containers import MAX_FRAME_PIXELS
from src.data.readers.video import UnreadableVideo, read_video

N_FRAMES = 5
SIZE = (176, 144)  # H.263 has no others near
SHOWN = (144, 176, 3)


def write(path, codec="mpeg2video", pix_fmt="yuv420p", container=None, size=SIZE, ratio=None):
    """Write a film of five frames."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = ratio
        for i in range(N_FRAMES):
            image = np.full((size[1], size[0], 3), 40 * i, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        output.mux(stream.encode(None))
    return path


def refusal(path):
    """Return why a file is refused before its first frame."""
    with pytest.raises(UnreadableVideo) as caught:
        next(read_video(path))
    return str(caught.value)


KINDS = {
    "film.mp4": ("mpeg4",),
    "film.m4v": ("mpeg4",),
    "film.mov": ("mjpeg", "yuvj420p"),
    "film.3gp": ("mpeg4",),
    "film.mkv": ("mpeg4",),
    "film.webm": ("libvpx",),
    "film.avi": ("mpeg4",),
    "film.wmv": ("wmv2",),
    "film.asf": ("wmv1",),
    "film.flv": ("flv",),
    "film.ts": ("mpeg2video",),
    "film.m2ts": ("mpeg2video",),
    "film.mpg": ("mpeg1video",),
    "film.vob": ("mpeg2video",),
    "film.m2v": ("mpeg2video",),
    "film.gif": ("gif", "rgb8"),
    "film.apng": ("apng", "rgb24"),
    "film.mxf": ("mpeg2video",),
    "film.rm": ("rv10",),
    "film.ivf": ("libvpx",),
    "film.y4m": ("rawvideo", "yuv420p", "yuv4mpegpipe"),
    "film.mjpeg": ("mjpeg", "yuvj420p"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_that_people_have(tmp_path, name):
    if KINDS[name][0] not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot write {KINDS[name][0]}")
    path = write(tmp_path / name, *KINDS[name])
    path = path.rename(tmp_path / "upload")  # the content counts
    frames = list(read_video(path))
    assert [frame.image.shape for frame in frames] == N_FRAMES * [SHOWN]
    assert [round(frame.image.mean() / 40) for frame in frames] == list(range(N_FRAMES))


LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n",
    "list.ffconcat": "ffconcat version 1.0\nfile film.ts\n",
    "list.txt": "ffconcat version 1.0\nfile film.ts\n",
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 31\n",
    "text.ans": 200 * "\x1b[1;31mno film\x1b[0m\r\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_and_texts_are_no_films(tmp_path, name):
    film = write(tmp_path / "film.ts")
    (tmp_path / name).write_text(LISTS[name].format(film=film), newline="")
    assert "not a video, or of an unknown format" in refusal(tmp_path / name)


def test_a_name_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "film.ts").rename("concat:other.ts")
    write(tmp_path / "other.ts", size=(352, 288))
    assert next(read_video(Path("concat:other.ts"))).image.shape == SHOWN


def test_an_aspect_that_nothing_can_show(tmp_path):
    path = write(tmp_path / "film.mp4", "mpeg4", ratio=Fraction(4, 3))
    content = path.read_bytes()
    at = content.index(b"pasp") + 4
    path.write_bytes(content[:at] + struct.pack(">II", 30_000, 1) + content[at + 8 :])
    assert refusal(path) == f"its frames have 5280000 x 144 pixels, more than {MAX_FRAME_PIXELS:,}"


def test_a_header_that_states_too_many_pixels(tmp_path):
    path = write(tmp_path / "film.avi", "rawvideo")
    size = struct.pack("<ii", *SIZE)
    content = path.read_bytes()
    assert content.count(size) == 2  # of the file and of the stream
    path.write_bytes(content.replace(size, struct.pack("<ii", 8000, 8000)))
    assert f"more than {MAX_FRAME_PIXELS:,} pixels" in refusal(path)


@pytest.mark.parametrize("name", ["film.mkv", "film.ts"])
def test_frames_that_are_too_large(tmp_path, monkeypatch, name):
    """Matroska tells their size before they are decoded, a transport stream does not."""
    monkeypatch.setattr(containers, "MAX_FRAME_PIXELS", 20_000)
    assert refusal(write(tmp_path / name)) == "its frames have 176 x 144 pixels, more than 20,000"


def test_decoders_know_the_limit(tmp_path, monkeypatch):
    """Frames that grow are refused before there is memory for them, not only when they are shown."""
    parts = [write(tmp_path / "small.ts"), write(tmp_path / "large.ts", size=(352, 288)), tmp_path / "small.ts"]
    path = tmp_path / "film.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert {frame.image.shape for frame in read_video(path)} == {SHOWN, (288, 352, 3)}
    monkeypatch.setitem(containers.DECODER, "max_pixels", "40000")
    shapes = set()
    with pytest.raises(UnreadableVideo, match="parts of it are broken"):
        for frame in read_video(path):
            shapes.add(frame.image.shape)
    assert shapes == {SHOWN}


@pytest.mark.parametrize(("limits", "reason"), [((0.0, 30.0), "unknown format"), ((30.0, 0.0), "breaks off|no frame")])
def test_waiting_has_an_end(tmp_path, monkeypatch, limits, reason):
    path = write(tmp_path / "film.mkv", "rawvideo", size=(352, 288))
    monkeypatch.setattr(containers, "TIMEOUT", limits)
    with pytest.raises(UnreadableVideo, match=reason):
        list(read_video(path))
