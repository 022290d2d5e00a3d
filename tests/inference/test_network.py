"""Addresses, against a server on this computer."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from src.data.readers.images import UnreadableImage
from src.data.readers.video import UnreadableVideo
from src.inference.network import fetch_image, read_stream
from src.inference.sources import Source, find_sources
from src.utils.errors import ConfigError
from src.utils.signals import stop_requests
from tests.data.readers.test_video import shade, write


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    Image.fromarray(shade(3)).save(folder / "a.png")
    write(folder / "film", [shade(i) for i in range(20)])
    (folder / "rubbish.png").write_bytes(b"rubbish")
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_image(address):
    frame = fetch_image(f"{address}/a.png")
    np.testing.assert_array_equal(frame.image, shade(3))
    assert frame.source == f"{address}/a.png"
    for name, reason in (("missing.png", "404"), ("rubbish.png", "not an image")):
        with pytest.raises(UnreadableImage, match=reason):
            fetch_image(f"{address}/{name}")
    with pytest.raises(UnreadableImage, match="cannot be fetched"):
        fetch_image("http://127.0.0.1:9/a.png")


def test_a_video(address):
    frames = list(read_stream(f"{address}/film.mp4"))
    assert len(frames) == 20
    assert frames[3].image.mean() == pytest.approx(shade(3).mean(), abs=3)
    assert len(list(read_stream(f"{address}/film.mp4", max_seconds=0.4))) == 10


def test_a_video_can_be_stopped(address):
    with stop_requests.handled(), stop_requests.deferred():
        frames = read_stream(f"{address}/film.mp4")
        next(frames)
        stop_requests._pending = 2
        assert list(frames) == []


@pytest.mark.parametrize("name", ["rubbish.png", "missing.mp4", "list.m3u8"])
def test_what_is_no_video(address, name):
    with pytest.raises(UnreadableVideo):
        list(read_stream(f"{address}/{name}"))


def test_addresses_are_fetched_if_that_is_said_alone():
    assert find_sources("https://x.org/a.JPG?x=1", network=True) == [Source("picture", "https://x.org/a.JPG?x=1")]
    assert find_sources(["rtsp://x.org/door"], network=True) == [Source("stream", "rtsp://x.org/door")]
    with pytest.raises(ConfigError, match="set network=true to fetch it"):
        find_sources("https://x.org/a.jpg")
    for address in ("file:///etc/passwd", "ftp://x.org/a.jpg", "concat://a"):
        with pytest.raises(ConfigError, match="expected a file, or an address of http, https, rtsp"):
            find_sources(address, network=True)
