"""The demo as programs call it: as documented, as other sites would, and with nonsense."""

import json
import os
import socket
import time
from importlib.metadata import version
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from src.data.faces.generator import draw_scene
from src.inference import EmotionPredictor
from src.inference.video_writer import VideoWriter
from src.utils.checksums import file_sha256
from src.utils.paths import ROOT
from tests.helpers.documented import blocks

PAGE = ROOT / "docs" / "deploying.md"
WEIGHTS = ROOT / "pretrained" / "emonet_fer.safetensors"

UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"
FORM = {"Content-Type": "multipart/form-data; boundary=line"}
FILE = b'--line\r\nContent-Disposition: form-data; name="files"; filename="face.png"\r\n\r\n%s\r\n--line--\r\n'
FIELD = b'--line\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
MB = 2**20  # the limit of this server


def ask(server, path="/", body=None, **headers):
    """Return the status and the text of an answer; names of headers have underscores here."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(server.url + path, body, fields), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def upload(server, content=b"no image", **headers):
    return ask(server, UPLOAD, FILE % content, **FORM, **headers)


def join(server, message, **headers):
    return ask(server, JOIN, json.dumps(message).encode(), Content_Type="application/json", **headers)


def send(server, head, pieces):
    """Send a request piece by piece until there is an answer, and return its first line."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        lines = [f"POST {UPLOAD} HTTP/1.1", f"Host: {host}:{port}", f"Content-Type: {FORM['Content-Type']}", *head]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.settimeout(0.01)
        for piece in pieces:
            try:
                connection.sendall(piece)
                return connection.recv(200).decode().splitlines()[0]
            except TimeoutError:
                continue
        connection.settimeout(60)
        return connection.recv(200).decode().splitlines()[0]


def files(server):
    return {path for path in server.uploads.rglob("*") if path.is_file()}


def test_its_health(server):
    status, text = ask(server, "/healthz")
    weights = {"name": "emonet_fer, ferplus", "file": WEIGHTS.name, "sha256": file_sha256(WEIGHTS)}
    assert (status, json.loads(text)) == (200, {"status": "ok", "weights": weights, "version": version("emonet-fer")})
    assert ask(server, "/healthz", Host="rebound.example")[0] == 400


@pytest.fixture(scope="module")
def client(server):
    """Gradio's own, which would ask the network for a newer version of itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        from gradio_client import Client

        client = Client(server.url, verbose=False, analytics_enabled=False)
        yield client
        client.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a caller has: an image of two faces, a film of four seconds, and a file that is too large."""
    folder = tmp_path_factory.mktemp("caller")
    Image.fromarray(draw_scene(7, 2, 400, faces=2)[0]).save(folder / "group.jpg", quality=95)
    with VideoWriter(folder / "clip") as writer:
        for i in range(8):
            writer.write(draw_scene(7, 0, 256)[0], i / 2)
    writer.path.rename(folder / "clip.mp4")
    (folder / "large.jpg").write_bytes(os.urandom(MB + 2**17))
    return folder


def test_the_documented_example(server, client, folder, monkeypatch, capsys):
    (example,) = [block.text for block in blocks(PAGE, "python") if "gradio_client" in block.text]
    assert "http://127.0.0.1:7860" in example
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile(example.replace("http://127.0.0.1:7860", server.url), str(PAGE), "exec"), names)
    names["client"].close()
    expected = EmotionPredictor(WEIGHTS).predict("group.jpg")
    assert len(expected.faces) == 2
    assert names["faces"].to_dict("list").keys() == expected.to_frame().to_dict("list").keys()
    assert names["faces"]["prediction"].tolist() == [face.expression for face in expected.faces]
    assert names["faces"]["happy"].tolist() == pytest.approx([face.probabilities["happy"] for face in expected.faces])
    answer = names["answer"]
    assert [row["time"] for row in answer["faces"]] == [0, 0.5, 1, 1.5, 2]
    assert answer["cut"] == "The first 2 seconds."
    assert [person["frames"] for person in answer["people"]] == [5]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_programs_see_two_endpoints_and_no_other(server, client):
    described = json.loads(ask(server, "/gradio_api/info")[1])
    assert set(described["named_endpoints"]) == {"/predict_image", "/predict_video"}
    assert described["unnamed_endpoints"] == {}
    assert [one["parameter_name"] for one in described["named_endpoints"]["/predict_image"]["parameters"]] == [
        "file",
        "model",
    ]


def test_files_of_programs_have_the_limits_of_the_demo(server, client, folder):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    def refused(file, **others):
        with pytest.raises((AppError, ValueError)) as caught:
            client.predict(file if isinstance(file, dict) else handle_file(str(file)), **others)
        return str(caught.value)

    assert "exceeds the maximum file size" in refused(folder / "large.jpg", api_name="/predict_image")
    assert upload(server, bytes(MB + 1))[0] == 413  # of a client that does not look
    assert refused("https://example.invalid/a.jpg", api_name="/predict_image").startswith("Files at addresses are not")
    clip = folder / "clip.mp4"
    assert refused(clip, api_name="/predict_image").startswith("clip.mp4 cannot be shown: not an image")
    assert (
        refused(folder / "group.jpg", model="nosuch", api_name="/predict_image") == "The demo has nothing of the kind."
    )
    inside = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for fields in (inside, {**inside, "path": str(WEIGHTS)}):
        message = {"data": [fields, "emonet_fer, ferplus"], "session_hash": "p", "fn_index": image(server)}
        assert join(server, message)[0] == 200
        answer = ask(server, "/gradio_api/queue/data?session_hash=p")[1]
        assert '"success":false' in answer.replace(" ", "")
        assert "The demo has nothing of the kind." in answer
    assert "Traceback" not in server.log.read_text()


def image(server):
    """Return the number of `/predict_image`."""
    functions = json.loads(ask(server, "/config")[1])["dependencies"]
    return next(function["id"] for function in functions if function["api_name"] == "predict_image")


def test_a_full_queue_says_so(server, folder):
    text = upload(server, (folder / "group.jpg").read_bytes())[1]
    data = [{"path": json.loads(text)[0], "meta": {"_type": "gradio.FileData"}}, "emonet_fer, ferplus"]
    number = image(server)
    answers = [join(server, {"data": data, "session_hash": "full", "fn_index": number}) for _ in range(12)]
    waiting = [text for status, text in answers if status == 200]
    refused = [text for status, text in answers if status == 503]
    assert len(waiting) + len(refused) == 12
    assert set(refused) == {'{"detail":"Queue is full. Max size is 4 and size is 4."}'}
    done = ask(server, "/gradio_api/queue/data?session_hash=full")[1]
    assert done.count("process_completed") == len(waiting)
    assert done.replace(" ", "").count('"success":true') == len(waiting)


def test_other_names_of_this_computer_are_refused(server):
    port = server.url.rpartition(":")[2]
    assert ask(server, Host="rebound.example") == (400, "Invalid host header")
    assert ask(server, "/config", Host=f"rebound.example:{port}")[0] == 400
    assert ask(server, Host=f"localhost:{port}")[0] == 200
    assert ask(server)[0] == 200


@pytest.mark.parametrize("origin", ["http://foreign.example", "null", "http://127.0.0.1:1", "http://localhost:1"])
def test_other_sites_cannot_post(server, origin):
    before = files(server)
    assert upload(server, b"from a foreign site", Origin=origin)[0] == 403
    assert join(server, {"data": [], "session_hash": "a", "fn_index": 0}, Origin=origin)[0] == 403
    assert files(server) == before


def test_other_sites_cannot_read(server):
    assert ask(server, "/config", Origin="http://foreign.example")[0] == 403
    shown = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(server, Sec_Fetch_Dest="iframe", **shown)[0] == 403
    assert ask(server, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image")[0] == 403
    assert ask(server, Sec_Fetch_Dest="document", **shown)[0] == 200  # someone follows a link
    assert ask(server, UPLOAD, b"", Sec_Fetch_Dest="document", **shown)[0] == 403  # of a form


def test_the_demo_itself_can_post(server):
    status, text = upload(server, Origin=server.url, Sec_Fetch_Site="same-origin")
    assert status == 200
    (path,) = json.loads(text)
    assert path.endswith("face.png")
    assert path.startswith(str(server.uploads))


@pytest.mark.parametrize("path", ["run/nosuch", "api/nosuch", "call/nosuch", "call/v2/nosuch", "component_server"])
def test_functions_that_are_not_there(server, path):
    message = json.dumps({"data": [], "session_hash": "a", "component_id": 999, "fn_name": "nosuch"}).encode()
    assert ask(server, f"/gradio_api/{path}", message, Content_Type="application/json")[0] == 404
    assert "Traceback" not in server.log.read_text()


def test_mistaken_requests_get_an_answer(server):
    assert join(server, {"data": [], "session_hash": "a", "fn_index": 999})[0] == 400
    assert ask(server, JOIN, b"nonsense", Content_Type="application/json")[0] == 422
    # A file where text belongs, and the other way round.
    assert ask(server, UPLOAD, FIELD.replace(b"text", b"files") + b"x\r\n--line--\r\n", **FORM)[0] == 400
    assert ask(server, f"{UPLOAD}?upload_id=a", FIELD + b"x\r\n--line--\r\n", **FORM)[0] == 400
    status, text = ask(server, "/gradio_api/queue/data?session_hash=nosuch")
    assert (status, "404" in text) == (200, True)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("data", [[], [None], [3, "nosuch", "x"], [{"path": "/etc/passwd"}, 1, []], ["a"] * 9])
def test_values_that_are_none_of_the_inputs_get_an_answer(server, data):
    config = json.loads(ask(server, "/config")[1])
    targets = [function["id"] for function in config["dependencies"] if len(function["inputs"]) == 3]
    for number in targets:
        session = f"{number}-{len(data)}"
        assert join(server, {"data": data, "session_hash": session, "fn_index": number})[0] == 200
        answer = ask(server, f"/gradio_api/queue/data?session_hash={session}")[1]
        assert "process_completed" in answer
    assert "Traceback" not in server.log.read_text()


def test_the_whole_request_counts(server):
    """A field of text, which Gradio's own limit of files does not see."""
    assert send(server, [f"Content-Length: {3 * MB}"], [FIELD]).startswith("HTTP/1.1 413")
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    start = b"%x\r\n%s\r\n" % (len(FIELD), FIELD)
    assert send(server, ["Transfer-Encoding: chunked"], [start, *48 * [chunk]]).startswith("HTTP/1.1 413")
    assert upload(server, bytes(MB))[0] == 200
    many = b"".join(FILE[:-10] % bytes(MB // 2) + b"\r\n" for _ in range(3))
    assert send(server, [f"Content-Length: {len(many)}"], [FIELD]).startswith("HTTP/1.1 413")


def test_an_upload_that_is_broken_off_leaves_nothing(server):
    before = files(server)
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: {MB}"
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + (FILE % bytes(MB // 2))[: MB // 4])
        assert within_seconds(lambda: files(server) != before)
    assert within_seconds(lambda: files(server) == before)


def within_seconds(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False
