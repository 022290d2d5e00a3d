"""A real server of the demo, and a real browser."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from src.data.faces.generator import draw_scene
from src.utils.paths import ROOT
from src.web.room import LOCK, PREFIX

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
]
# Starts the entry point, and notes whom it talks to.
WATCHED = """
import runpy, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" and isinstance(arguments[1], tuple) else arguments[0]
        if isinstance(host, (str, bytes)):
            with open(hosts, "a") as file: file.write(f"{host}\\n")
hosts = sys.argv.pop(1)
sys.addaudithook(watch)
runpy.run_module("src.app", run_name="__main__", alter_sys=True)
"""
SECONDS = 60_000


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Start the demo with the shipped weights, small limits, and what a killed one has left."""
    folder = tmp_path_factory.mktemp("app")
    left = folder / "temp" / f"{PREFIX}left"
    left.mkdir(parents=True)
    (left / LOCK).touch()
    log, hosts = folder / "log", folder / "hosts"
    options = ["port=null", "max_mb=1", "max_seconds=2", "queue.max_size=4", f"hydra.run.dir={folder / 'run'}"]
    options += ["models=[pretrained/emonet_fer.safetensors]"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(hosts), *options],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder / "temp")},
        )
    try:
        url = wait_for_url(process, log)
        (uploads,) = (folder / "temp").glob(f"{PREFIX}*")
        assert uploads != left
        yield SimpleNamespace(url=url, folder=folder, log=log, hosts=hosts, process=process, uploads=uploads)
        process.send_signal(2)
        assert process.wait(timeout=60) == 0, log.read_text()
        assert json.loads((folder / "run" / "status.json").read_text())["state"] == "finished"
        assert not uploads.exists()
    finally:
        process.kill()


def wait_for_url(process, log):
    for _ in range(600):
        found = re.search(r"Open (http://127\.0\.0\.1:\d+)/ in a browser", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture
def slow_demo(monkeypatch):
    """The demo above a model that takes half a second a frame: its address, and how many frames it has seen."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    from src.web.analysis import View
    from src.web.cards import notice
    from src.web.demo import build_demo

    seen = []

    def frame(image, model, overlay):
        seen.append(image.shape)
        time.sleep(0.5)
        return View(notice("1 face."), image, faces='<article class="face">1</article>')

    demo = build_demo(SimpleNamespace(shelf=SimpleNamespace(choices={"slow": None}), frame=frame), [], max_mb=1)
    _, url, _ = demo.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield SimpleNamespace(url=url, seen=lambda: len(seen))
    demo.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Start Chromium with a camera that sees a synthetic face, and an empty profile."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}")
    folder = tmp_path_factory.mktemp("browser")
    camera = write_camera(folder / "camera.y4m")
    with playwright.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--use-file-for-fake-video-capture={camera}"],
            viewport={"width": 1280, "height": 900},
        )
        yield context
        context.close()


def scene(index, faces=1, expression=None):
    return draw_scene(7, index, 320, faces=faces, expression=expression)[0]


def write_camera(path):
    """Write what the browser's camera sees, in its format for raw video."""
    image = scene(0, expression="happy")
    with av.open(str(path), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("rawvideo", rate=5)
        stream.width = stream.height = 320
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    return path
