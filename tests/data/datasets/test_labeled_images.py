"""Tests of where the source of a data set is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.data.datasets.fer2013 import LABELS
from src.engine.fit import fit_and_test
from src.utils.errors import ConfigError
from tests.data.datasets.test_fer2013 import pixels, text
from tests.data.datasets.test_ferplus import HEADER
from tests.helpers.image_files import build, encoded, write, zipped
from tests.helpers.image_files import pixels as noise
from tests.helpers.running import tiny_config

USAGES = ("Training", "PublicTest", "PrivateTest")


def unset(name: str, folder: Path) -> Path:
    return build(name, None, folder).source()


def test_one_file_or_folder_of_raw_is_the_source(tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "mmafedb"
    for split in ("train", "valid", "test"):
        write(raw / "MMAFEDB" / split / "sad" / f"{split}.png")
    write(raw / ".DS_Store", b"")
    assert unset("mmafedb", tmp_path) == raw / "MMAFEDB"
    # Without the folder between, it is the folder itself.
    for part in (raw / "MMAFEDB").iterdir():
        part.rename(raw / part.name)
    (raw / "MMAFEDB").rmdir()
    assert unset("mmafedb", tmp_path) == raw


def test_what_the_path_names_wins(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "folder" / "train" / "sad" / "1.png")
    write(tmp_path / "mine" / "train" / "sad" / "1.png")
    assert build("folder", tmp_path / "mine", tmp_path).source() == tmp_path / "mine"


@pytest.mark.parametrize(
    "name", ["fer2013", "ferplus", "fer2013_votes", "mmafedb", "affectnet", "rafdb", "folder", "csv"]
)
def test_where_to_put_it_is_said(tmp_path: Path, name: str) -> None:
    folder = "fer2013" if name in ("ferplus", "fer2013_votes") else name
    with pytest.raises(
        ConfigError, match=rf"data\.path is not set, and nothing lies in .*raw.{folder}; data={name} .*"
    ) as c:
        unset(name, tmp_path)
    assert str(c.value).endswith("Put it there, or set data.path=...")
    assert (f"python -m src.download data={name}" in str(c.value)) == (name not in ("folder", "csv"))


def test_the_missions_command_finds_its_data(tmp_path: Path) -> None:
    """`python -m src.train head=multihead data=mmafedb`, exactly so, but for what makes it small."""
    for i in range(24):
        split, label = ("train", "valid", "test")[i % 3], LABELS[i % 7]
        write(tmp_path / "all" / "MMAFEDB" / split / label / f"{i}.png", encoded(noise(i, 48)))
    (tmp_path / "data" / "raw" / "mmafedb").mkdir(parents=True)
    zipped(tmp_path / "all", tmp_path / "data" / "raw" / "mmafedb" / "archive.zip")
    results = fit_and_test(tiny_config(tmp_path / "run", tmp_path / "data", "head=multihead", "data=mmafedb"))
    assert results["test/n"] == 8


def test_votes_are_found_beside_the_images(tmp_path: Path) -> None:
    rows = [f"{i % 7},{text(pixels(i))},{USAGES[i % 3]}" for i in range(6)]
    votes = [f"{USAGES[i % 3]},fer{i:07}.png,0,10,0,0,0,0,0,0,0,0" for i in range(6)]
    for name, lines in (("fer2013", ["emotion,pixels,Usage", *rows]), ("ferplus", [HEADER, *votes])):
        write(tmp_path / "raw" / name / f"{name}.csv", "\n".join([*lines, ""]).encode())
    data = build("fer2013_votes", None, tmp_path)
    assert len(data.store) == 6
    (tmp_path / "raw" / "ferplus" / "ferplus.csv").unlink()
    with pytest.raises(ConfigError, match=r"data\.votes_path is not set, and nothing lies in .*raw.ferplus"):
        _ = build("ferplus", None, tmp_path).store
