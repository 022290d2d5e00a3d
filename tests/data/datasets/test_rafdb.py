"""RAF-DB in its authors' layout and in Kaggle's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from src.data.datasets.rafdb import LABELS
from src.data.store.packed_store import SPLITS
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, tarred, write, zipped

NAMES = [(f"{split}_{i:05}", str(1 + i % 7)) for split, n in (("train", 140), ("test", 14)) for i in range(n)]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The authors' layout, with the compound expressions beside the basic ones."""
    root = tmp_path / "RAF-DB"
    write(root / "basic/EmoLabel/list_patition_label.txt", "".join(f"{n}.jpg {v}\n" for n, v in NAMES).encode())
    for name, _ in NAMES:
        write(root / "basic/Image/aligned" / f"{name}_aligned.jpg")
    write(root / "basic/Annotation/boundingbox/train_00000_boundingbox.txt", b"0 0 1 1")
    write(root / "compound/EmoLabel/list_patition_label.txt", b"train_0001.jpg 11\n")
    write(root / "compound/Image/aligned/train_0001_aligned.jpg")
    return root


def test_the_authors_layout(official: Path, tmp_path: Path) -> None:
    module = build("rafdb", official / "basic", tmp_path / "cache")
    assert module.class_names == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [126, 14, 14]
    records, skipped = contents(module)
    assert not skipped
    assert {id: r.label for id, r in records.items()} == {
        f"Image/aligned/{name}_aligned.jpg": LABELS[label] for name, label in NAMES
    }
    assert Counter(record.label for record in records.values() if record.split == "val") == dict.fromkeys(
        LABELS.values(), 2
    )
    assert all(("test" in id) == (record.split == "test") for id, record in records.items())


def test_folders_above_and_archives_give_the_same(official: Path, tmp_path: Path) -> None:
    expected = contents(build("rafdb", official / "basic", tmp_path / "cache"))[0]
    for source in (official, zipped(official, tmp_path / "a.zip"), tarred(official, tmp_path / "a.tar")):
        found, _ = contents(build("rafdb", source, tmp_path / "cache"))
        assert {id: r.split for id, r in found.items()} == {id: r.split for id, r in expected.items()}


def test_kaggles_layout(tmp_path: Path) -> None:
    root = tmp_path / "DATASET"
    for name, label in NAMES:
        write(root / name.partition("_")[0] / label / f"{name}_aligned.jpg")
    write(tmp_path / "DATASET" / "train_labels.csv", b"image,label\n")
    records, skipped = contents(build("rafdb", tmp_path / "DATASET", tmp_path / "cache", val_share=0.2))
    assert not skipped
    assert Counter(record.split for record in records.values()) == {"train": 112, "val": 28, "test": 14}
    assert records["train/5/train_00004_aligned.jpg"].label == "sad"


def test_images_and_labels_that_do_not_match_are_named(official: Path, tmp_path: Path) -> None:
    folder = official / "basic/Image/aligned"
    (folder / "train_00003_aligned.jpg").unlink()
    write(folder / "train_99999_aligned.jpg")
    _, skipped = contents(build("rafdb", official, tmp_path / "cache"))
    assert skipped == {
        "Image/aligned/train_00003_aligned.jpg": "missing",
        "Image/aligned/train_99999_aligned.jpg": "not in EmoLabel/list_patition_label.txt",
    }


def test_a_broken_list_is_an_error(official: Path, tmp_path: Path) -> None:
    listing = official / "basic/EmoLabel/list_patition_label.txt"
    listing.write_text("train_00001.jpg 5\ntrain_00002.jpg 8\n")
    with pytest.raises(ConfigError, match=r"line 2 .*'train_00002\.jpg 8'.*from 1 to 7"):
        contents(build("rafdb", official, tmp_path / "cache"))
    listing.unlink()
    with pytest.raises(ConfigError, match=r"lacks EmoLabel/list_patition_label\.txt"):
        contents(build("rafdb", official, tmp_path / "cache"))


def test_images_still_packed_are_an_error(official: Path, tmp_path: Path) -> None:
    for path in (official / "basic/Image/aligned").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"Unpack RAF-DB's aligned\.zip"):
        contents(build("rafdb", official, tmp_path / "cache"))


def test_another_layout_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "faces" / "1.png")
    with pytest.raises(ConfigError, match=r"data\.path=.*train/1"):
        contents(build("rafdb", tmp_path / "faces", tmp_path / "cache"))
