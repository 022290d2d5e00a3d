"""What the notebook leaves to a browser: the picture that Colab takes, and the link to the report."""

import base64
import json
import re

import cv2
import numpy as np
import pytest

from src.inference.detection import build_detector
from src.utils.paths import ROOT

pytestmark = pytest.mark.browser

CELLS = json.loads((ROOT / "notebooks" / "quickstart.ipynb").read_text())["cells"]
SOURCES = {cell["id"]: "".join(cell["source"]) for cell in CELLS}
# Browsers give cameras to pages of this machine; what of Colab the script calls is noted.
PAGE = "<script>heights = []; google = {colab: {output: {setIframeHeight: (height) => heights.push(height)}}}</script>"


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.route("http://localhost/**", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.goto("http://localhost/")
    yield page
    page.close()


def test_the_camera_s_script_takes_a_picture(page):
    names = {}
    exec(SOURCES["capture"], names)
    page.add_script_tag(content=names["CAPTURE"])
    page.evaluate("() => { picture = null; capture().then((taken) => { picture = taken; }); }")
    page.get_by_role("button", name="Take the picture").click()  # perhaps before the camera shows anything
    page.wait_for_function("() => picture")
    head, _, content = page.evaluate("() => picture").partition(",")
    assert head == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert len(build_detector("retinaface")(image)) == 1
    assert page.evaluate("() => heights.length") == 1
    assert page.locator("video, button").count() == 0


def test_the_link_saves_the_report(page, tmp_path):
    (tmp_path / "report.html").write_text("<!doctype html>" + "x" * 3_000_000)
    link = re.search(r"HTML\(f'(.*)'\)", SOURCES["report"])[1]
    content = base64.b64encode((tmp_path / "report.html").read_bytes()).decode()
    page.set_content(link.format(page=content))
    with page.expect_download() as download:
        page.get_by_text("report.html").click()
    assert download.value.suggested_filename == "report.html"
    assert download.value.path().read_bytes() == (tmp_path / "report.html").read_bytes()
