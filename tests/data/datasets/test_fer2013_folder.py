"""Kaggle's folders of FER2013: split by file name."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.data.datasets.fer2013_folder import fer2013_folder, is_fer2013_folder
from src.data.store.packed_store import Record, Skipped
from src.utils.errors import ConfigError
from tests.helpers.image_files import encoded, pixels, tarred, write, zipped

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """An image of each split and class."""
    root = tmp_path / "kaggle"
    for c, label in enumerate(LABELS):
        for s, name in enumerate(("train/?/Training_", "test/?/PublicTest_", "test/?/PrivateTest_")):
            path = root / f"{name.replace('?', label)}{c}{s}.jpg"
            write(path, encoded(pixels(10 * s + c, 48, gray=True), "JPEG"))
    return root


def test_the_file_name_tells_the_split(kaggle: Path) -> None:
    records = {entry.id: entry for entry in fer2013_folder(kaggle, LABELS) if isinstance(entry, Record)}
    assert len(records) == 21
    assert {records[f"test/fear/{name}.jpg"].split for name in ("PublicTest_21", "PrivateTest_22")} == {"val", "test"}
    assert records["train/sad/Training_50.jpg"].split == "train"
    assert {record.image.shape for record in records.values()} == {(48, 48)}


def test_a_name_without_a_split_is_skipped(kaggle: Path) -> None:
    write(kaggle / "test" / "happy" / "im0.png")
    skipped = [entry for entry in fer2013_folder(kaggle, LABELS) if isinstance(entry, Skipped)]
    assert [entry.id for entry in skipped] == ["test/happy/im0.png"]
    assert "PublicTest_" in skipped[0].reason


def test_folders_and_archives_of_images_are_told_from_the_csv(kaggle: Path, tmp_path: Path) -> None:
    assert is_fer2013_folder(kaggle)
    for archive in (zipped(kaggle, tmp_path / "a.zip"), tarred(kaggle, tmp_path / "a.tar.gz")):
        assert is_fer2013_folder(archive)
        assert sum(isinstance(entry, Record) for entry in fer2013_folder(archive, LABELS)) == 21
    write(tmp_path / "csv" / "fer2013.csv", b"emotion,pixels,Usage\n")
    write(tmp_path / "csv" / "README", b"about")
    for source in (zipped(tmp_path / "csv", tmp_path / "b.zip"), tarred(tmp_path / "csv", tmp_path / "b.tar")):
        assert not is_fer2013_folder(source)
    assert not is_fer2013_folder(tmp_path / "csv" / "fer2013.csv")


def test_another_layout_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "faces" / "1.png")
    with pytest.raises(ConfigError, match=r"data\.path=.*PublicTest"):
        list(fer2013_folder(tmp_path / "faces", LABELS))
