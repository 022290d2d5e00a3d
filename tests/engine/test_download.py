"""From `python -m src.download` to the data set and the weights that other commands find."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.cli.validation import validate_config
from src.data.datasets.fer2013 import LABELS, Fer2013DataModule
from src.data.datasets.ferplus import VOTES, FerPlusDataModule
from src.data.datasets.ferplus_votes import COLUMNS
from src.data.download.web import WebFile
from src.engine.download import download
from src.engine.prepare import prepare
from src.utils.errors import ConfigError
from tests.data.download.conftest import COMPETITION_FILE, TOKEN
from tests.helpers.forking import run_forked
from tests.helpers.full_disk import full_disk
from tests.helpers.image_files import encoded, pixels
from tests.helpers.loopback import Loopback, content, status
from tests.helpers.running import compose_config

USAGES = ("Training", "PublicTest", "PrivateTest")
ROWS = [(LABELS[i % 7], USAGES[i % 3]) for i in range(21)]


def _table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def fer2013_archive() -> bytes:
    """Kaggle's fer2013.tar.gz, with an image of each class and split."""
    rows = [
        (LABELS.index(label), " ".join(map(str, pixels(i, 48, gray=True).ravel())), usage)
        for i, (label, usage) in enumerate(ROWS)
    ]
    body, buffer = _table(("emotion", "pixels", "Usage"), rows), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("fer2013/fer2013.csv")
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def fer2013_folders() -> bytes:
    """Kaggle's folders of the same, as the .zip that comes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for i, (label, usage) in enumerate(ROWS):
            folder = "train" if usage == "Training" else "test"
            bundle.writestr(f"{folder}/{label}/{usage}_{i}.jpg", encoded(pixels(i, 48, gray=True), "JPEG"))
    return buffer.getvalue()


def run(folder: Path, *overrides: str) -> None:
    """Run the command in this process."""
    cfg = compose_config("download", f"data_dir={folder / 'data'}", f"run_dir={folder}", *overrides)
    validate_config(cfg)
    download(cfg)


def counts(folder: Path, name: str) -> dict[str, int]:
    """Prepare `data=name`, without `data.path`, and return how many images each split has."""
    prepare(compose_config("prepare", f"data={name}", f"data_dir={folder / 'data'}", f"run_dir={folder}"))
    audit = json.loads((folder / "audit.json").read_text())
    return {split: sum(classes.values()) for split, classes in audit["counts"].items()}


@pytest.mark.parametrize(
    ("options", "body", "place"),
    [((), fer2013_archive(), "fer2013.tar.gz"), (("source=folders",), fer2013_folders(), "fer2013")],
    ids=["competition", "folders"],
)
def test_what_was_fetched_is_found(
    kaggle: Loopback,
    tmp_path: Path,
    options: tuple[str, ...],
    body: bytes,
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kaggle.answers["/file"] = [content(body)]
    with caplog.at_level("INFO"):
        run(tmp_path, "data=fer2013", *options)
        assert "ICONIP 2013" in caplog.text
        assert "For research" in caplog.text
        asked = len(kaggle.asked)
        run(tmp_path, "data=fer2013", *options)
        assert "is there already" in caplog.text
    assert len(kaggle.asked) == asked
    raw = tmp_path / "data" / "raw" / "fer2013"
    assert sorted(path.name for path in raw.iterdir() if path.name != ".lock") == [place]
    assert counts(tmp_path, "fer2013") == {"train": 7, "val": 7, "test": 7}


def test_ferplus_is_two_downloads(kaggle: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes = _table(COLUMNS, [(usage, f"{i}.png", 10, *[0] * 9) for i, (_, usage) in enumerate(ROWS)])
    here = WebFile("github", f"{kaggle.address}/votes.csv", hashlib.sha256(votes).hexdigest(), "https://home.example")
    images = FerPlusDataModule.downloads[0]
    monkeypatch.setattr(FerPlusDataModule, "downloads", (images, replace(VOTES, sources=(here,))))
    kaggle.answers |= {"/file": [content(fer2013_archive())], "/votes.csv": [content(votes)]}
    with pytest.raises(ConfigError, match="source=folders is no source of data=ferplus"):
        run(tmp_path, "data=ferplus", "source=folders")
    run(tmp_path, "data=ferplus")
    assert counts(tmp_path, "ferplus") == {"train": 7, "val": 7, "test": 7}


def test_two_at_once_fetch_once(kaggle: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one waits until the first has ended, and finds what it has fetched."""
    (source,) = Fer2013DataModule.downloads
    began, go_on = threading.Event(), threading.Event()

    def slowly(handler) -> None:
        began.set()
        assert go_on.wait(20)
        content(fer2013_archive())(handler)

    kaggle.answers["/file"] = [slowly]
    threads = [threading.Thread(target=source.fetch, args=(tmp_path,)) for _ in range(2)]
    with caplog.at_level("INFO"):
        threads[0].start()
        assert began.wait(20)
        threads[1].start()
        while "waiting for it" not in caplog.text:
            assert threads[1].is_alive()
        go_on.set()
        for thread in threads:
            thread.join()
    assert [address for _, address, _ in kaggle.asked if "/file" in address] == [
        f"http://store.example/file?X-Goog-Signature={TOKEN}"
    ]
    assert "is there already" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "say what, such as data=fer2013 or backbone=emonet_8"),
        (["data=synthetic"], "data=synthetic has nothing to be fetched"),
        (["data=folder"], "data=folder has nothing to be fetched"),
        (["data=fer2013", "source=nowhere"], "source=nowhere .* expected one of competition, folders"),
        (["data=mmafedb", "source=folders"], "source=folders .* there is no choice"),
        (["data=fer2013", "data.path=faces.csv"], r"data\.path=faces\.csv names data that are there"),
        (["data=affectnet"], r"AffectNet: .*application.*mohammadmahoor.*put AffectNet's folder .*raw.affectnet"),
        (["data=rafdb"], r"RAF-DB: .*application.*whdeng.*put RAF-DB's folder basic"),
        (["data=ckplus"], r"CK\+: .*application.*jeffcohn.*ckextended\.csv"),
        (["data=combined", "data.parts=[{name: csv, path: x}]"], "data=combined has nothing to be fetched"),
        (["data=combined", "data.parts=[{name: rafdb}, {name: fer2013, path: x}]"], "RAF-DB: .*application"),
        (["backbone=emonet_fer"], r"backbone\.url=None"),
        (["backbone=emonet_8"], "accept_license=false"),
        (["backbone=emonet_8", "accept_license=true", "backbone.url=https://me:pw@x.example/a"], r"backbone\.url"),
        (["backbone=emonet_8", "accept_license=true", "backbone.blob_id=null"], "without a checksum"),
    ],
)
def test_what_cannot_be_fetched_is_said(tmp_path: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        run(tmp_path, *overrides)


def test_weights_after_their_license(server: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = np.random.default_rng(0).bytes(100_000)
    blob_id = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    path = tmp_path / "pretrained" / "emonet_8.pth"
    server.answers["/emonet_8.pth"] = [content(body, cut=70_000), content(body)]
    options = ["backbone=emonet_8", f"backbone.weights={path}", f"backbone.url={server.address}/emonet_8.pth"]
    options += [f"backbone.blob_id={blob_id}"]
    with caplog.at_level("INFO"), pytest.raises(ConfigError, match="accept_license=true"):
        run(tmp_path, *options)
    assert "CC BY-NC-ND 4.0" in caplog.text
    assert not server.asked
    for _ in range(2):
        run(tmp_path, *options, "accept_license=true")
        assert path.read_bytes() == body
    assert len(server.asked) == 2
    path.write_bytes(body[:-1])
    with pytest.raises(ConfigError, match="is not the published file"):
        run(tmp_path, *options, "accept_license=true")
    assert path.read_bytes() == body[:-1]


def test_a_full_disk_is_named(server: Loopback, tmp_path: Path) -> None:
    server.answers["/emonet_8.pth"] = [content(bytes(200_000))]
    options = ["backbone=emonet_8", f"backbone.weights={tmp_path / 'here' / 'emonet_8.pth'}", "accept_license=true"]
    with full_disk(100_000), pytest.raises(OSError, match="too large") as caught:
        run(tmp_path, *options, f"backbone.url={server.address}/emonet_8.pth")
    assert caught.value.filename == str(tmp_path / "here")


def test_no_token_is_in_a_run_directory(kaggle: Loopback, tmp_path: Path) -> None:
    """Even if everything is logged that there is to log."""
    kaggle.answers["/file"] = [status(403)]
    options = ["data=fer2013", f"data_dir={tmp_path}/data", f"hydra.run.dir={tmp_path}/run", "hydra.verbose=true"]
    done = run_forked("src.download", *options, env=os.environ)
    assert done.returncode == 1
    assert [address for _, address, _ in kaggle.asked if TOKEN in address]
    assert "Or try source=folders" in done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    written = [path for folder in ("run", "data") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(written) > 4
    for text in (done.stdout, done.stderr, *(path.read_text(errors="replace") for path in written)):
        assert TOKEN not in text
    assert COMPETITION_FILE in kaggle.asked[0][1]
