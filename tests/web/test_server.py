"""The demo's server, and requests that a user would not make; runs after `test_demo.py`."""

import json
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from src.utils.paths import ROOT

pytestmark = pytest.mark.browser


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
    """Send the browser's own request after an upload, with some path; return whether it succeeds, and the answer."""
    configuration = json.loads(status(f"{server.url}/config")[1])
    file = next(c["id"] for c in configuration["components"] if c["props"].get("elem_id") == "file")
    event = next(d["id"] for d in configuration["dependencies"] if d["inputs"] == [file])
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session}).encode()
    code, content = status(f"{server.url}/gradio_api/queue/join", body)
    if code != 200:
        return False, content
    with urlopen(f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
        for line in stream:
            message = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message["success"], line
    return False, b"no answer"


def test_an_upload_can_be_made_an_input(server):
    """The control of the test below: the request is the right one."""
    border = "border"
    disposition = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
    part = f"--{border}\r\n{disposition}\r\n\r\nhello\r\n--{border}--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
    with urlopen(Request(f"{server.url}/gradio_api/upload", data=part.encode(), headers=headers)) as answer:
        (path,) = json.loads(answer.read())
    succeeds, content = send(server, path, "friend")
    assert succeeds, content


@pytest.mark.parametrize("path", SECRETS)
def test_no_file_of_the_server_can_be_made_an_input(server, path):
    """Neither analyzed nor copied to where it could be fetched."""
    succeeds, content = send(server, path, f"stranger{SECRETS.index(path)}")
    assert not succeeds, content
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
    """Runs last: whatever the demo has done until now."""
    hosts = set(server.hosts.read_text().split())
    assert "127.0.0.1" in hosts
    assert hosts <= {"127.0.0.1", "localhost", "::1"}, hosts
