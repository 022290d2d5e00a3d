"""The demo as a user has it, in a real browser."""

import os
import re
from pathlib import Path
from urllib.request import urlopen

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

from src.inference import EmotionPredictor
from src.utils.paths import ROOT
from tests.web.conftest import SECONDS, scene

pytestmark = pytest.mark.browser


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


def write_image(path, image):
    cv2.imwrite(str(path), image[..., ::-1])
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
    page.wait_for_function("() => { const i = document.querySelector('#image img'); return i && i.naturalWidth > 0 }")
    source = page.eval_on_selector("#image img", "image => image.src")
    with urlopen(source) as answer:
        return cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_an_image_shows_every_face_with_its_class(page, tmp_path):
    image = scene(2, faces=4)
    expected = EmotionPredictor(ROOT / "pretrained" / "emonet_fer.safetensors").predict(image).faces
    assert len(expected) >= 3
    expected = sorted(expected, key=lambda face: -face.box.width * face.box.height)
    upload(page, write_image(tmp_path / "four.png", image))
    page.wait_for_selector("#faces .face")
    assert page.locator("#faces .expression").all_inner_texts() == [face.expression for face in expected]
    assert f"{len(expected)} faces" in page.locator("#notice").inner_text()
    first = expected[0]
    bars = page.locator("#faces .face").first.locator(".bar").all_inner_texts()
    fractions = {line.split("\n")[0]: int(line.split("\n")[1].rstrip("%")) for line in bars}
    assert fractions == pytest.approx({name: 100 * fraction for name, fraction in first.probabilities.items()}, abs=1)
    label = page.locator("#faces svg").first.get_attribute("aria-label")
    shown = [float(word) for word in label.replace("\N{MINUS SIGN}", "-").replace(",", "").split()[1::2]]
    assert shown == pytest.approx([first.valence, first.arousal], abs=0.011)
    assert shown_pixels(page).shape[0] >= 320


def test_the_heat_map_is_laid_over_the_face(page):
    page.locator("#examples .thumbnail-item").nth(1).click()
    page.wait_for_selector("#faces .face")
    plain = shown_pixels(page)
    before = page.eval_on_selector("#image img", "image => image.src")
    page.locator("#heat input").check()
    page.wait_for_selector("text=what speaks most for the class")
    page.wait_for_function("old => document.querySelector('#image img').src !== old", arg=before)
    warm = shown_pixels(page)
    assert warm.shape == plain.shape
    changed = (np.abs(warm.astype(int) - plain).max(axis=2) > 30).mean()
    assert 0.005 < changed < 0.5
    page.locator("#heat input").uncheck()
    page.wait_for_function("old => document.querySelector('#image img').src !== old", arg=before)
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
    assert state["width"] > state["height"] >= 320  # the cards stand beside the image
    assert state["seconds"] == pytest.approx(1, abs=0.2)
    assert "8 frames" in page.locator("#notice").inner_text()
    assert page.locator("#download").is_visible()
    assert page.locator("#faces .face").count() == 1
    assert page.eval_on_selector("#faces .timelines img", "image => image.naturalWidth") > 600
    with page.expect_download() as started:
        page.locator("#table").click()
    table = pd.read_csv(started.value.path())
    assert len(table) == 8
    assert set(table["source"]) == {"talk.avi"}


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


def test_a_slow_machine_drops_frames_of_the_camera(browser, slow_demo):
    """Three seconds of a camera that sends ten frames a second, to a model that takes half a second."""
    page = browser.new_page()
    page.set_default_timeout(SECONDS)
    page.goto(slow_demo.url)
    page.get_by_role("tab", name="Camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="Record").or_(page.locator("#camera .button-wrap button")).first.click()
    page.wait_for_selector("#faces .face")
    page.wait_for_timeout(3000)
    seen = slow_demo.seen()
    page.close()
    assert 3 <= seen <= 9
    page = browser.new_page()  # time to work off a queue, if there were one
    page.wait_for_timeout(2000)
    page.close()
    assert slow_demo.seen() <= seen + 2


def violations(page):
    """Return what axe-core finds against WCAG 2.1 AA, one line each."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    return [
        f"{rule['id']}: {rule['help']}: {node['target']} {node['html'][:200]}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_and_weak_eyes(browser, server, tmp_path, scheme):
    page = browser.new_page()
    page.set_default_timeout(SECONDS)
    page.emulate_media(color_scheme=scheme)
    page.goto(server.url)
    page.wait_for_selector("#examples img")
    assert violations(page) == []
    page.locator("#examples .thumbnail-item").first.click()
    page.wait_for_selector("#faces .face")
    shown_pixels(page)
    assert violations(page) == []
    upload(page, write_video(tmp_path / "talk.avi", seconds=1))
    page.wait_for_selector("#faces .timelines img")
    assert violations(page) == []
    keep_screenshot(page)
    page.close()


def test_the_keyboard_reaches_everything(page):
    page.locator("#model input").focus()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => (document.activeElement.closest('[id]') || {}).id || ''"))
        box = page.evaluate("() => document.activeElement.closest('#heat, #landmarks, #file, #examples')?.id || ''")
        reached.add(box)
    assert {"heat", "landmarks", "file", "examples"} <= reached
    page.locator("#examples .thumbnail-item").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#faces .face")


def test_a_phone_shows_all_of_it(browser, server, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(SECONDS)
    page.set_viewport_size({"width": 375, "height": 740})
    page.goto(server.url)
    page.locator("#examples .thumbnail-item").nth(2).click()
    page.wait_for_selector("#faces .face")
    shown_pixels(page)
    width = "() => document.documentElement.scrollWidth"
    assert page.evaluate(width) <= 375
    for face in page.locator("#faces .face").all():
        box = face.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
    upload(page, write_video(tmp_path / "talk.avi", seconds=1))
    page.wait_for_selector("#faces .timelines img")
    assert page.evaluate(width) <= 375
    keep_screenshot(page)
    page.close()


BAD_FILES = {
    "rubbish.png": (b"rubbish" * 100, "rubbish.png is neither an image nor a video that can be read. Choose"),
    "rubbish.mp4": (b"rubbish" * 100, "rubbish.mp4 is neither an image nor a video that can be read (not a video"),
    "notes.txt": (b"not a face", "notes.txt is neither an image nor a video"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_rubbish_gets_a_message(page, tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    upload(page, tmp_path / name)
    page.wait_for_selector("#notice [role=alert]")
    assert message in page.locator("#notice").inner_text()
    assert page.locator("#image img").count() == 0


def test_an_image_with_too_many_pixels(page, tmp_path):
    cv2.imwrite(str(tmp_path / "vast.png"), np.zeros((9000, 9000), np.uint8))
    assert (tmp_path / "vast.png").stat().st_size < 1e6
    upload(page, tmp_path / "vast.png")
    page.wait_for_selector("#notice [role=alert]")
    assert "9000 x 9000 pixels, more than" in page.locator("#notice").inner_text()


def test_an_image_without_faces(page, tmp_path):
    upload(page, write_image(tmp_path / "blank.png", np.full((200, 300, 3), 90, np.uint8)))
    page.wait_for_selector("text=No face found")
    assert page.locator("#faces .face").count() == 0


def test_a_file_that_is_too_large(page, tmp_path):
    (tmp_path / "large.png").write_bytes(os.urandom(1_500_000))
    upload(page, tmp_path / "large.png")
    page.wait_for_selector("text=maximum allowed size of 1.0 MB")
