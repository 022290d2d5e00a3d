"""A server for downloads, no patience, and nobody's credentials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.data.download import problems
from tests.helpers.loopback import Loopback, content, loopback, status

TOKEN = "KGAT_s3cr3t"
DATASET = "/api/v1/datasets.DatasetApiService/GetDataset"
DATASET_FILES = "/api/v1/datasets.DatasetApiService/DownloadDataset"
COMPETITION_FILE = "/api/v1/competitions.CompetitionApiService/DownloadDataFile"


@pytest.fixture(scope="module")
def _server() -> Iterator[Loopback]:
    with loopback() as served:
        yield served


@pytest.fixture
def server(_server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """A server that knows nothing yet, in an environment without proxies and credentials."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith("KAGGLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(problems, "WAITS", (0, 0))
    _server.answers.clear()
    _server.asked.clear()
    return _server


@pytest.fixture
def kaggle(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """The server as Kaggle, with its store of files, for kagglehub as it is: it is the proxy on the way to both."""
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", os.environ["HOME"])
    monkeypatch.setenv("http_proxy", server.address)
    server.answers[DATASET] = [content(b'{"currentVersionNumber": 4}', kind="application/json")]
    for path in (DATASET_FILES, COMPETITION_FILE):
        server.answers[path] = [status(302, Location=f"http://store.example/file?X-Goog-Signature={TOKEN}")]
    return server
