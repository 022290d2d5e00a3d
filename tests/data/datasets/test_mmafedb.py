"""MMAFEDB's layout, as a folder and as Kaggle's zip."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.data.datasets.mmafedb import LABELS
from src.data.store.packed_store import SPLITS
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, write, zipped


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Images of several sizes, gray and coloured, below the folder MMAFEDB."""
    root = tmp_path / "kaggle"
    for s, split in enumerate(("train", "valid", "test")):
        for c, name in enumerate(LABELS):
            key = 10 * s + c
            image = pixels(key, 8 + key % 3, gray=bool(c % 2))
            write(root / "MMAFEDB" / split / name / f"{key}.png", encoded(image))
    return root


def test_splits_classes_and_modes(kaggle: Path, tmp_path: Path) -> None:
    module = build("mmafedb", kaggle / "MMAFEDB", tmp_path / "cache")
    assert module.class_names == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [7, 7, 7]
    records, skipped = contents(module)
    assert not skipped
    record = records["valid/disgust/11.png"]
    assert (record.split, record.label, record.image.shape) == ("val", "disgust", (10, 10))
    assert records["test/angry/20.png"].image.shape == (10, 10, 3)


def test_the_folder_above_and_the_zip_give_the_same(kaggle: Path, tmp_path: Path) -> None:
    ids = contents(build("mmafedb", kaggle / "MMAFEDB", tmp_path / "cache"))[0].keys()
    assert contents(build("mmafedb", kaggle, tmp_path / "cache"))[0].keys() == ids
    assert contents(build("mmafedb", zipped(kaggle, tmp_path / "a.zip"), tmp_path / "cache"))[0].keys() == ids


def test_a_missing_split_or_a_class_of_its_own_is_an_error(kaggle: Path, tmp_path: Path) -> None:
    write(kaggle / "MMAFEDB" / "train" / "contempt" / "1.png")
    with pytest.raises(ConfigError, match="'train/contempt'"):
        contents(build("mmafedb", kaggle, tmp_path / "cache"))
    (kaggle / "MMAFEDB" / "train" / "contempt" / "1.png").unlink()
    (kaggle / "MMAFEDB" / "train" / "contempt").rmdir()
    (kaggle / "MMAFEDB" / "valid").rename(kaggle / "valid")
    with pytest.raises(ConfigError, match=r"data\.path=.*MMAFEDB"):
        contents(build("mmafedb", kaggle / "MMAFEDB", tmp_path / "cache"))
