"""A user's folders: splits as they are or drawn, classes by name, and nothing lost in silence."""

from __future__ import annotations

import logging
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from src.data.store.packed_store import SPLITS, Record
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, tarred, write, zipped

CLASSES = ("happy", "Sadness", "ANGER")


@pytest.fixture
def split_folders(tmp_path: Path) -> Path:
    """Three splits of three classes, by synonyms, two images each."""
    root = tmp_path / "mine"
    for split in ("training", "valid", "Test"):
        for name in CLASSES:
            for i in range(2):
                write(root / split / name / f"{split}-{name}-{i}.png")
    return root


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Three classes of 20 images, without splits."""
    root = tmp_path / "mine"
    for name in CLASSES:
        for i in range(20):
            write(root / name / f"{name}-{i}.png")
    return root


def test_splits_and_classes_come_from_the_folders(split_folders: Path, tmp_path: Path) -> None:
    records, skipped = contents(build("folder", split_folders, tmp_path / "cache"))
    assert not skipped
    assert len(records) == 18
    record = records["valid/Sadness/valid-Sadness-1.png"]
    assert (record.split, record.label) == ("val", "sad")


def test_the_store_serves_them(split_folders: Path, tmp_path: Path) -> None:
    module = build("folder", split_folders, tmp_path / "cache")
    assert module.class_names == ("happy", "sad", "angry")
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [6, 6, 6]
    name = "training/happy/training-happy-0.png"
    row = module.store.ids.tolist().index(name)
    assert encoded(module.store.image(row)) == (split_folders / name).read_bytes()


def test_archives_and_folders_above_give_the_same(split_folders: Path, tmp_path: Path) -> None:
    plain, _ = contents(build("folder", split_folders, tmp_path / "cache"))
    sources = [
        split_folders.parent,
        zipped(split_folders.parent, tmp_path.parent / f"{tmp_path.name}.zip"),
        tarred(split_folders, tmp_path.parent / f"{tmp_path.name}.tar.gz"),
    ]
    for source in sources:
        other, _ = contents(build("folder", source, tmp_path / "cache"))
        assert {id: (r.split, r.label, r.image.tobytes()) for id, r in other.items()} == {
            id: (r.split, r.label, r.image.tobytes()) for id, r in plain.items()
        }


def test_missing_splits_are_drawn(class_folders: Path, tmp_path: Path) -> None:
    records, _ = contents(build("folder", class_folders, tmp_path / "cache"))
    counts = Counter((record.label, record.split) for record in records.values())
    fractions = {"train": 16, "val": 2, "test": 2}
    assert counts == {(name, split): n for name in ("happy", "sad", "angry") for split, n in fractions.items()}
    other, _ = contents(build("folder", class_folders, tmp_path / "cache", split_seed=1))
    assert {id for id, r in other.items() if r.split == "val"} != {id for id, r in records.items() if r.split == "val"}


def test_a_missing_validation_split_is_drawn_from_training(split_folders: Path, tmp_path: Path) -> None:
    for path in list((split_folders / "valid").rglob("*.png")):
        path.unlink()
    module = build("folder", split_folders, tmp_path / "cache", split_shares=[0.5, 0.5, 0])
    counts = Counter(record.split for record in contents(module)[0].values())
    assert counts == {"train": 3, "val": 3, "test": 6}


def test_the_options_of_the_split_make_another_store(class_folders: Path, tmp_path: Path) -> None:
    names = {
        build("folder", class_folders, tmp_path / "cache", **options).fingerprint
        for options in ({}, {"split_seed": 1}, {"split_shares": [0.6, 0.2, 0.2]}, {"split_seed": 0})
    }
    assert len(names) == 3


def test_unreadable_images_are_named_up_to_a_fraction(class_folders: Path, tmp_path: Path) -> None:
    write(class_folders / "happy" / "empty.jpg", b"")
    write(class_folders / "happy" / "text.jpg", b"hello")
    write(class_folders / "lost.jpg")
    write(class_folders / "README.txt", b"about")
    write(class_folders / "happy" / "Thumbs.db", b"x")
    module = build("folder", class_folders, tmp_path / "cache", max_bad=0.1)
    reasons = {entry.id: entry.reason for entry in module.store.skipped}
    assert reasons.keys() == {"happy/empty.jpg", "happy/text.jpg", "lost.jpg"}
    assert reasons["lost.jpg"] == "in no class folder"
    with pytest.raises(ConfigError, match=r"(?s)3 of 63.*happy/empty\.jpg: zero bytes"):
        _ = build("folder", class_folders, tmp_path / "other", max_bad=0.01).store


def test_the_splits_of_fer2013_are_those(tmp_path: Path) -> None:
    for split in ("Training", "PublicTest", "PrivateTest"):
        for i in range(2):
            write(tmp_path / "fer" / split / "happy" / f"{split}-{i}.png")
    records, _ = contents(build("folder", tmp_path / "fer", tmp_path / "cache"))
    assert Counter(record.split for record in records.values()) == {"train": 2, "val": 2, "test": 2}
    assert records["PublicTest/happy/PublicTest-0.png"].split == "val"


def test_folders_of_any_name_can_be_named(tmp_path: Path) -> None:
    names = {"0": "angry", "1_Disgust": "disgust", "hapyness": "happiness"}
    for name in (*names, "sad"):
        for i in range(10):
            write(tmp_path / "mine" / name / f"{name}-{i}.png")
    with pytest.raises(ConfigError, match=r"'0', '1_Disgust', 'hapyness'.*data.class_folders=\{"):
        contents(build("folder", tmp_path / "mine", tmp_path / "cache"))
    module = build(
        "folder", tmp_path / "mine", tmp_path / "cache", class_folders={0: "angry", **dict(list(names.items())[1:])}
    )
    records, skipped = contents(module)
    assert not skipped
    assert Counter(record.label for record in records.values()) == dict.fromkeys(
        ("angry", "disgust", "happy", "sad"), 10
    )
    assert (
        module.fingerprint
        != build("folder", tmp_path / "mine", tmp_path / "c", class_folders={**names, 0: "fear"}).fingerprint
    )
    with pytest.raises(ConfigError, match="'grumpy' is not a known expression"):
        build("folder", tmp_path / "mine", tmp_path / "cache", class_folders={"0": "grumpy"})


def test_an_unknown_class_is_an_error(split_folders: Path, tmp_path: Path) -> None:
    write(split_folders / "training" / "bored" / "1.png")
    with pytest.raises(ConfigError, match=r"'training/bored'.*neutral.*surprised"):
        contents(build("folder", split_folders, tmp_path / "cache"))


def test_empty_classes_and_other_folders_are_warned_of(
    split_folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (split_folders / "training" / "fear").mkdir()
    write(split_folders / "models" / "old" / "1.bin", b"x")
    with caplog.at_level(logging.WARNING):
        contents(build("folder", split_folders, tmp_path / "cache"))
    assert "class folder training/fear is empty" in caplog.text
    assert "folder models is no split (train, val or test); its 1 files are left out" in caplog.text


def test_a_file_in_two_splits_counts_for_the_test(split_folders: Path, tmp_path: Path) -> None:
    (split_folders / "training" / "happy" / "again.png").symlink_to(
        split_folders / "Test" / "happy" / "Test-happy-0.png"
    )
    _, skipped = contents(build("folder", split_folders, tmp_path / "cache"))
    assert skipped == {
        "training/happy/again.png": "the same file as Test/happy/Test-happy-0.png, which is in the test split"
    }


def test_links_in_a_circle_do_no_harm(split_folders: Path, tmp_path: Path) -> None:
    (split_folders / "training" / "happy" / "loop").symlink_to(split_folders)
    module = build("folder", split_folders, tmp_path / "cache")
    assert len(module.store) == 18
    assert not module.store.skipped


def test_two_data_sets_in_one_folder_are_refused(split_folders: Path, tmp_path: Path) -> None:
    write(tmp_path / "yours" / "train" / "happy" / "1.png")
    with pytest.raises(ConfigError, match=r"several data sets \(mine, yours\)"):
        contents(build("folder", tmp_path, tmp_path / "cache"))


def test_another_layout_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "1.png")
    with pytest.raises(ConfigError, match=r"data\.path=.*split/class/image"):
        contents(build("folder", tmp_path / "photos", tmp_path / "cache"))
    with pytest.raises(ConfigError, match="does not exist"):
        contents(build("folder", tmp_path / "gone", tmp_path / "cache"))


def test_dangerous_members_are_named_and_not_followed(split_folders: Path, tmp_path: Path) -> None:
    archive = zipped(split_folders, tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr("../../outside.png", encoded(pixels(1)))
    records, skipped = contents(build("folder", archive, tmp_path / "cache"))
    assert skipped == {"../../outside.png": "a path with '..' in the archive"}
    assert len(records) == 18
    assert not (tmp_path.parent / "outside.png").exists()


def test_names_of_any_kind_survive_in_the_store(tmp_path: Path) -> None:
    names = ["fáce 😀 (1).png", "x" * 250 + ".png", 'it\'s, "quoted".png']
    for i, name in enumerate(names):
        write(tmp_path / "mine" / "train" / "happy" / name, key=i)
    ids = build("folder", tmp_path / "mine", tmp_path / "cache", split_shares=[1, 0, 0]).store.ids
    assert sorted(ids.tolist()) == sorted(f"train/happy/{name}" for name in names)


def test_gray_duplicates_match_byte_for_byte(tmp_path: Path) -> None:
    gray = pixels(1, 48, gray=True)
    write(tmp_path / "mine" / "train" / "happy" / "gray.png", encoded(gray))
    write(tmp_path / "mine" / "train" / "happy" / "color.bmp", encoded(np.stack([gray] * 3, axis=-1), "BMP"))
    module = build("folder", tmp_path / "mine", tmp_path / "cache", split_shares=[1, 0, 0])
    assert len(set(module.store.digests.tolist())) == 1
    assert all(isinstance(entry, Record) and entry.image.shape == (48, 48) for entry in module.records())
