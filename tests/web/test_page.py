"""The page as a user has it: a real server, a real browser, and requests that a user would not make."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import av
import cv2
import numpy as np
import pytest

from src.data.faces import draw_scene
from src.inference import EmotionPredictor
from src.utils.resolvers import ROOT

pytestmark = pytest.mark.browser

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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start the page with the shipped weights and small limits."""
    folder = tmp_path_factory.mktemp("app")
    log, hosts = folder / "log", folder / "hosts"
    options = ["port=null", "max_mb=1", "max_seconds=2", f"hydra.run.dir={folder / 'run'}"]
    options += ["models=[pretrained/emonet_fer.safetensors]"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(hosts), *options], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = wait_for_url(process, log)
        yield SimpleNamespace(url=url, folder=folder, log=log, hosts=hosts, process=process)
        process.send_signal(2)
        assert process.wait(timeout=60) == 0, log.read_text()
        assert json.loads((folder / "run" / "status.json").read_text())["state"] == "finished"
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Start Chromium with a camera that sees a drawn face, and an empty profile."""
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


@pytest.fixture
def page(browser, server):
    """Open the page; afterwards, nobody but the server has been asked for anything."""
    asked = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(SECONDS)
    page.goto(server.url)
    page.wait_for_selector("#examples img")
    yield page
    keep_screenshot(page)
    page.close()
    assert asked
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []


def keep_screenshot(page):
    """Keep what the page looks like at the end of a test, for a person to look at."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        name = re.sub(r"\W+", "_", os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0])
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def scene(index, faces=1, expression=None):
    return draw_scene(7, index, 320, faces=faces, expression=expression)[0]


def write_picture(path, image):
    cv2.imwrite(str(path), image[..., ::-1])
    return path


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


def write_video(path, seconds=1):
    image = scene(1, expression="surprise")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 320
        for i in range(8 * seconds):
            moved = np.roll(image, i, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved)))
        container.mux(stream.encode(None))
    return path


def upload(page, path):
    page.set_input_files("#file input[type=file]", path)


def shown_pixels(page):
    """Return the pixels of the result, once they are loaded."""
    page.wait_for_function("() => { const i = document.querySelector('#picture img'); return i && i.naturalWidth > 0 }")
    source = page.eval_on_selector("#picture img", "image => image.src")
    with urlopen(source) as answer:
        return cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_a_picture_shows_every_face_with_its_class(page, tmp_path):
    image = scene(2, faces=4)
    expected = EmotionPredictor(ROOT / "pretrained" / "emonet_fer.safetensors").predict(image).faces
    assert len(expected) >= 3
    upload(page, write_picture(tmp_path / "four.png", image))
    page.wait_for_selector("#faces .face")
    assert page.locator("#faces .expression").all_inner_texts() == [face.expression for face in expected]
    assert f"{len(expected)} faces" in page.locator("#notice").inner_text()
    first = expected[0]
    bars = page.locator("#faces .face").first.locator(".bar").all_inner_texts()
    shares = {line.split("\n")[0]: int(line.split("\n")[1].rstrip("%")) for line in bars}
    assert shares == pytest.approx({name: 100 * share for name, share in first.probabilities.items()}, abs=1)
    label = page.locator("#faces svg").first.get_attribute("aria-label")
    assert f"valence {first.valence:+.1f}".replace("-", "\N{MINUS SIGN}") in label
    assert shown_pixels(page).shape[0] >= 320


def test_the_heat_map_is_laid_over_the_face(page):
    page.locator("#examples .thumbnail-item").first.click()
    page.wait_for_selector("#faces .face")
    plain = shown_pixels(page)
    before = page.eval_on_selector("#picture img", "image => image.src")
    page.locator("#heat input").check()
    page.wait_for_selector("text=what speaks most for the class")
    page.wait_for_function("old => document.querySelector('#picture img').src !== old", arg=before)
    warm = shown_pixels(page)
    assert warm.shape == plain.shape
    changed = (np.abs(warm.astype(int) - plain).max(axis=2) > 30).mean()
    assert 0.005 < changed < 0.5
    page.locator("#heat input").uncheck()
    page.wait_for_function("old => document.querySelector('#picture img').src !== old", arg=before)
    page.wait_for_selector("text=what speaks most for the class", state="detached")


def test_another_model_gives_other_classes(page):
    page.locator("#examples .thumbnail-item").first.click()
    page.wait_for_selector("#faces .face")
    assert page.locator("#faces .bar").count() == 8
    page.locator("#model input").click()
    page.get_by_role("option", name="emonet_fer, fer2013").click()
    page.wait_for_function("() => document.querySelectorAll('#faces .bar').length === 7")


def test_a_video_is_annotated_and_plays(page, tmp_path):
    upload(page, write_video(tmp_path / "talk.avi", seconds=1))
    page.wait_for_selector("#video video")
    page.wait_for_function("() => document.querySelector('#video video').currentTime > 0.2")
    state = page.eval_on_selector(
        "#video video", "v => ({ error: v.error, width: v.videoWidth, height: v.videoHeight, seconds: v.duration })"
    )
    assert state["error"] is None
    assert state["width"] > state["height"] >= 320  # the cards stand beside the picture
    assert state["seconds"] == pytest.approx(1, abs=0.2)
    assert "8 frames" in page.locator("#notice").inner_text()
    assert page.locator("#download").is_visible()


def test_a_long_video_is_cut(page, tmp_path):
    upload(page, write_video(tmp_path / "long.avi", seconds=4))
    page.wait_for_selector("#video video")
    assert "The first 2 seconds." in page.locator("#notice").inner_text()


def test_the_camera_is_followed(page):
    page.get_by_role("tab", name="Camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="Record").or_(page.locator("#camera .button-wrap button")).first.click()
    page.wait_for_selector("#faces .face")
    assert "1 face" in page.locator("#notice").inner_text()
    assert shown_pixels(page).shape[0] >= 320


BAD_FILES = {
    "rubbish.png": (b"rubbish" * 100, "rubbish.png is neither a picture nor a video that can be read. Choose"),
    "rubbish.mp4": (b"rubbish" * 100, "rubbish.mp4 is neither a picture nor a video that can be read (not a video"),
    "notes.txt": (b"not a face", "notes.txt is neither a picture nor a video"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_rubbish_gets_a_message(page, tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    upload(page, tmp_path / name)
    page.wait_for_selector("#notice [role=alert]")
    assert message in page.locator("#notice").inner_text()
    assert page.locator("#picture img").count() == 0


def test_a_picture_with_too_many_pixels(page, tmp_path):
    cv2.imwrite(str(tmp_path / "vast.png"), np.zeros((9000, 9000), np.uint8))
    assert (tmp_path / "vast.png").stat().st_size < 1e6
    upload(page, tmp_path / "vast.png")
    page.wait_for_selector("#notice [role=alert]")
    assert "9000 x 9000 pixels, more than" in page.locator("#notice").inner_text()


def test_a_picture_without_faces(page, tmp_path):
    upload(page, write_picture(tmp_path / "blank.png", np.full((200, 300, 3), 90, np.uint8)))
    page.wait_for_selector("text=No face found")
    assert page.locator("#faces .face").count() == 0


def test_a_file_that_is_too_large(page, tmp_path):
    (tmp_path / "large.png").write_bytes(os.urandom(1_500_000))
    upload(page, tmp_path / "large.png")
    page.wait_for_selector("text=maximum allowed size of 1.0 MB")


def status(url, data=None):
    request = Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


SECRETS = ["/etc/passwd", "/proc/self/environ", str(ROOT / "pyproject.toml"), str(ROOT / "conf" / "app.yaml")]
ROUTES = ("gradio_api/file=", "gradio_api/file/")


def spellings(path):
    return path, quote(path, safe=""), path.replace("/", "//")


def test_own_files_can_be_fetched(server):
    """The control of the test below: the routes are the right ones."""
    configuration = json.loads(status(f"{server.url}/config")[1])
    gallery = next(c for c in configuration["components"] if c["props"].get("elem_id") == "examples")
    path = gallery["props"]["value"][0]["image"]["path"]
    for route in ROUTES:
        assert status(f"{server.url}/{route}{path}")[0] == 200, route


@pytest.mark.parametrize("path", [*SECRETS, "pyproject.toml", "../../../../etc/passwd"])
def test_no_file_of_the_server_can_be_fetched(server, path):
    for route in ROUTES:
        for spelling in spellings(path):
            code, content = status(f"{server.url}/{route}{spelling}")
            assert 400 <= code < 500, (route, spelling, code)
            assert b"root:" not in content
            assert b"setuptools" not in content


def send(server, path, session):
    """Send the browser's own request after an upload, with some path; return what the server answers."""
    configuration = json.loads(status(f"{server.url}/config")[1])
    file = next(c["id"] for c in configuration["components"] if c["props"].get("elem_id") == "file")
    event = next(d["id"] for d in configuration["dependencies"] if d["inputs"] == [file])
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session}).encode()
    return status(f"{server.url}/gradio_api/run/predict", body)


def test_an_upload_can_be_made_an_input(server):
    """The control of the test below: the request is the right one."""
    border = "border"
    disposition = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
    part = f"--{border}\r\n{disposition}\r\n\r\nhello\r\n--{border}--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
    with urlopen(Request(f"{server.url}/gradio_api/upload", data=part.encode(), headers=headers)) as answer:
        (path,) = json.loads(answer.read())
    code, content = send(server, path, "friend")
    assert code == 200, content


@pytest.mark.parametrize("path", SECRETS)
def test_no_file_of_the_server_can_be_made_an_input(server, path):
    """Neither analysed nor copied to where it could be fetched."""
    code, content = send(server, path, "stranger")
    assert code >= 400, content
    assert b"root:" not in content
    copies = [copy for copy in Path(tempfile.gettempdir()).glob(f"emonet-fer-*/**/{Path(path).name}") if copy.is_file()]
    assert copies == []


def test_only_this_computer_can_reach_it(server):
    port = int(server.url.rsplit(":", 1)[1])
    wanted = f"{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A" and line.split()[1].endswith(wanted)]
    assert listening == [f"0100007F:{wanted}"]


def test_the_server_talks_to_nobody_else(server):
    """Runs last: whatever the page has done until now."""
    hosts = set(server.hosts.read_text().split())
    assert "127.0.0.1" in hosts
    assert hosts <= {"127.0.0.1", "localhost", "::1"}, hosts
