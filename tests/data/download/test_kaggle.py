"""Kaggle by kagglehub itself, against a server that answers as Kaggle does, its refusals and accidents included."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from src.data.download.kaggle import KaggleCompetition, KaggleDataset
from src.data.download.sources import Source
from src.utils.errors import ConfigError
from tests.data.download.conftest import COMPETITION_FILE, DATASET, DATASET_FILES, TOKEN
from tests.helpers.loopback import Answer, Loopback, content, status

FILES = {"train/happy/Training_1.jpg": os.urandom(100_000), "test/sad/PublicTest_2.jpg": os.urandom(10_000)}
DATA = KaggleDataset("folders", "msambare/faces")
COMPETITION = KaggleCompetition("competition", "faces-2013", "faces.tar.gz")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, body in FILES.items():
            bundle.writestr(name, body)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


ZIP, TAR = _zip(), _tar()


def refusal(source: Source, folder: Path) -> str:
    """What a user reads, if neither that nor what is chained holds the token, and nothing has its place."""
    with pytest.raises(ConfigError) as caught:
        source.fetch(folder)
    assert not [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert caught.value.__cause__ is None
    assert TOKEN not in str(caught.value)
    assert source.page in str(caught.value) or "kaggle.json" in str(caught.value)
    return str(caught.value)


def test_a_data_set_is_unpacked_at_its_place(kaggle: Loopback, tmp_path: Path) -> None:
    kaggle.answers["/file"] = [content(ZIP)]
    before = dict(os.environ)
    DATA.fetch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]
    assert {name: (tmp_path / "faces" / name).read_bytes() for name in FILES} == FILES
    assert dict(os.environ) == before


def test_public_data_need_no_credentials(kaggle: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    kaggle.answers["/file"] = [content(ZIP)]
    DATA.fetch(tmp_path)
    assert (tmp_path / "faces" / "train").is_dir()


def test_a_competition_gives_its_file(kaggle: Loopback, tmp_path: Path) -> None:
    kaggle.answers["/file"] = [content(TAR)]
    COMPETITION.fetch(tmp_path)
    assert (tmp_path / "faces.tar.gz").read_bytes() == TAR


@pytest.mark.parametrize(("source", "body"), [(DATA, ZIP), (COMPETITION, TAR)], ids=["data set", "competition"])
def test_a_transfer_that_breaks_off_goes_on(
    kaggle: Loopback, tmp_path: Path, source: Source, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kagglehub.clients.CHUNK_SIZE", 2**14)
    kaggle.answers["/file"] = [content(body, cut=2**16), content(body)]
    source.fetch(tmp_path)
    (made,) = [path for path in tmp_path.iterdir() if path.name.startswith("faces")]
    assert made.is_dir() or made.read_bytes() == body
    assert [asked for _, _, asked in kaggle.asked if asked] == [f"bytes={2**16}-"]


PAGE = content(b"<!DOCTYPE html><title>Log in</title>", kind="text/html")
WRONG_MD5 = f"md5={base64.b64encode(hashlib.md5(TAR).digest()).decode()}"


@pytest.mark.parametrize(
    ("source", "wrong", "expected"),
    [
        (DATA, content(ZIP[:-1000], length=False, ranges=False), "is damaged"),
        (DATA, content(ZIP, X_Goog_Hash=WRONG_MD5), "is damaged"),
        (DATA, PAGE, "a web page came"),
        (COMPETITION, content(TAR[:-1000], length=False, ranges=False), "is damaged"),
        (COMPETITION, PAGE, "a web page came"),
    ],
    ids=["short zip", "wrong checksum", "page for a zip", "short tar", "page for a tar"],
)
def test_what_is_damaged_is_removed(
    kaggle: Loopback, tmp_path: Path, source: Source, wrong: Answer, expected: str
) -> None:
    kaggle.answers["/file"] = [wrong]
    assert expected in refusal(source, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_after_damage_it_begins_anew(kaggle: Loopback, tmp_path: Path) -> None:
    kaggle.answers["/file"] = [content(ZIP[:-1000], length=False), content(ZIP)]
    refusal(DATA, tmp_path)
    DATA.fetch(tmp_path)
    assert (tmp_path / "faces" / "train").is_dir()
    assert not [asked for _, _, asked in kaggle.asked if asked]


def test_a_page_for_an_answer_of_the_api(kaggle: Loopback, tmp_path: Path) -> None:
    kaggle.answers[DATASET] = [content(b"<html>Log in</html>", kind="text/html")]
    assert "is damaged" in refusal(DATA, tmp_path)


@pytest.mark.parametrize("source", [DATA, COMPETITION], ids=["data set", "competition"])
def test_without_credentials_it_says_where_they_come_from(
    kaggle: Loopback, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    kaggle.answers[DATASET] = [status(401)]
    message = refusal(source, tmp_path)
    assert "No credentials for Kaggle were found" in message
    assert "~/.kaggle/access_token" in message
    assert "KAGGLE_API_TOKEN" in message


def test_broken_credentials_are_not_shown(kaggle: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    home = Path(os.environ["HOME"])
    home.mkdir()
    (home / "kaggle.json").write_text(f'{{"username": "me", "key": "{TOKEN}')
    folder = tmp_path / "raw"
    folder.mkdir()
    assert "kaggle.json, cannot be read" in refusal(DATA, folder)


@pytest.mark.parametrize(
    ("source", "path", "answer", "expected"),
    [
        (COMPETITION, COMPETITION_FILE, status(403), f"accept what {COMPETITION.page}/rules asks for"),
        (DATA, DATASET_FILES, status(403), "your token is no longer valid"),
        (DATA, DATASET, status(404), "no such file"),
        (COMPETITION, COMPETITION_FILE, status(429, Retry_After="30"), "Try again in 30 s"),
        (DATA, "/file", status(403), "status 403"),
        (DATA, "/file", status(500), "a problem of its own"),
    ],
)
def test_refusals_say_what_to_do(
    kaggle: Loopback, tmp_path: Path, source: Source, path: str, answer: Answer, expected: str
) -> None:
    kaggle.answers[path] = [answer]
    assert expected in refusal(source, tmp_path)
