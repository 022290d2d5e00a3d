"""Clips in class folders: which frames are served, which splits they are in, and what is wrong with them."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from src.data.datasets.clips import ClipsDataModule
from src.data.readers.file_tree import open_tree
from src.data.store.packed_store import SPLITS
from src.inference.video_writer import VideoWriter
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, write, zipped

CLASSES = ("happy", "sad")


def film(path: Path, n: int = 6, start: int = 20) -> Path:
    """Write a video whose brightness tells the number of its frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path) as writer:
        for i in range(n):
            writer.write(np.full((32, 48, 3), start + 20 * i, np.uint8), i / 25)
    return writer.path


def folder(path: Path, n: int = 3) -> None:
    """Write a folder of frames, of which the tenth sorts before the second."""
    for i in range(n):
        write(path / f"frame{5 * i}.png", key=zlib.crc32(path.name.encode()) % 1000 + i)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten clips of each class, of ten subjects, half of them videos."""
    for number, name in enumerate(CLASSES):
        for i in range(10):
            place = tmp_path / "clips" / name / f"actor{i}_{name}"
            film(place, start=20 + 3 * i + 2 * number) if i % 2 else folder(place)
    return tmp_path / "clips"


def module(path: Path, cache: Path, **options) -> ClipsDataModule:
    return build("clips", path, cache, **{"crop": None, "frames_per_clip": 2, **options})


def test_frames_are_from_all_over_a_clip(tmp_path: Path) -> None:
    path = film(tmp_path / "c" / "train" / "happy" / "a", 8)
    folder(tmp_path / "c" / "test" / "sad" / "b")
    film(tmp_path / "c" / "val" / "sad" / "inner" / "c", 1)
    records, skipped = contents(module(tmp_path / "c", tmp_path / "cache"))
    assert not skipped
    assert list(records) == [
        *("test/sad/b#0", "test/sad/b#2", f"train/happy/{path.name}#2", f"train/happy/{path.name}#6"),
        f"val/sad/inner/c{path.suffix}#0",
    ]
    assert [record.split for record in records.values()] == ["test", "test", "train", "train", "val"]
    assert [record.label for record in records.values()] == ["sad", "sad", "happy", "happy", "sad"]
    third = records[f"train/happy/{path.name}#2"].image
    assert third.shape == (32, 48, 3)
    assert abs(int(third.mean()) - 60) < 4
    second = records["test/sad/b#2"].image  # frame10, not frame5: in the order of the numbers
    assert np.array_equal(second, pixels(zlib.crc32(b"b") % 1000 + 2))


def test_no_clip_is_in_two_drawn_splits(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path / "cache", split_shares=[0.6, 0.2, 0.2])
    splits: dict[str, set[int]] = {}
    for id, split in zip(data.store.ids.tolist(), data.store.splits.tolist(), strict=True):
        splits.setdefault(data.clip_of(id), set()).add(split)
    assert len(splits) == 20
    assert Counter(split for found in splits.values() for split in found) == {0: 12, 1: 4, 2: 4}
    assert [data.class_counts(split).tolist() for split in SPLITS[1:]] == [[4, 4], [4, 4]]
    assert set(data.store.ids) == set(module(root, tmp_path / "again").store.ids)


def test_no_subject_is_in_two_drawn_splits(root: Path, tmp_path: Path) -> None:
    records, _ = contents(module(root, tmp_path / "cache", subject_pattern=r"actor(\d+)"))
    splits: dict[str, set[str]] = {}
    for id, record in records.items():
        splits.setdefault(id.split("/")[1][:6], set()).add(record.split)
    assert len(splits) == 10
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == set(SPLITS)


def test_a_subject_in_two_stated_splits_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path / "c" / "train" / "happy" / "anna_1")
    folder(tmp_path / "c" / "test" / "sad" / "anna_2")
    with pytest.raises(ConfigError, match=r"'anna' is in test \(test/sad/anna_2\) and in train \(train/happy/anna_1\)"):
        contents(module(tmp_path / "c", tmp_path / "cache", subject_pattern=r"(\w+)_\d"))


def test_what_is_wrong_is_named_with_its_reason(root: Path, tmp_path: Path) -> None:
    whole = film(root / "sad" / "whole", 11)
    (root / "sad" / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    write(root / "sad" / "text.mp4", b"no video")
    write(root / "sad" / "frames" / "0.png", b"text")
    write(root / "sad" / "frames" / "1.png", encoded(pixels(1)))
    write(root / "sad" / "loose.png")
    write(root / "sad" / "sound.wav", b"x")
    film(root / "outside")
    records, skipped = contents(module(root, tmp_path / "cache"))
    assert skipped.pop("sad/half.mp4")
    assert "not a video" in skipped.pop("sad/text.mp4")
    assert skipped == {
        "sad/frames#0": "0.png: not an image, or of an unknown format",
        "sad/loose.png": "an image in no clip's folder",
        f"outside{whole.suffix}": "in no class folder",
    }
    assert "sad/frames#1" in records
    assert not any(id.startswith("sad/half") for id in records)


def test_a_clip_that_a_link_brings_into_two_splits_is_held_out(tmp_path: Path) -> None:
    path = film(tmp_path / "c" / "test" / "sad" / "a")
    (tmp_path / "c" / "train" / "sad").mkdir(parents=True)
    (tmp_path / "c" / "train" / "sad" / path.name).symlink_to(path)
    records, skipped = contents(module(tmp_path / "c", tmp_path / "cache"))
    assert {record.split for record in records.values()} == {"test"}
    reason = f"the same file as test/sad/{path.name}, which is in the test split"
    assert skipped == {f"train/sad/{path.name}": reason}


def test_faces_are_cut_by_what_is_given(root: Path, tmp_path: Path) -> None:
    data = module(root, tmp_path / "cache", crop="expw", max_bad=1)
    with pytest.raises(ConfigError, match=r"data\.crop=expw: nothing here finds faces"):
        contents(data)
    shapes, crops = [], set()

    def cutter(image, crop):
        shapes.append(image.shape)
        crops.add(crop)
        return None if image.shape[1] == 48 else image[:6, :6]  # no face in videos

    records, skipped = contents(module(root, tmp_path / "cache", crop="expw", max_bad=1, face_cutter=cutter))
    assert crops == {"expw"}
    assert {record.image.shape for record in records.values()} == {(6, 6, 3)}
    assert set(skipped.values()) == {"no face was found"}
    assert len(records) == len(skipped) == 20


def test_gray_frames_stay_gray(tmp_path: Path) -> None:
    write(tmp_path / "c" / "test" / "sad" / "a" / "0.png", encoded(pixels(1, gray=True)))
    data = module(tmp_path / "c", tmp_path / "cache", crop="fer2013", face_cutter=lambda image, crop: image)
    (record,) = contents(data)[0].values()
    assert np.array_equal(record.image, pixels(1, gray=True))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("actor(", "is no regular expression"), ("actor", "has no group"), (r"person(\d)", "finds no subject in 'happy")],
)
def test_a_pattern_that_tells_no_subject_is_an_error(root: Path, tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.subject_pattern=.*{message}"):
        contents(module(root, tmp_path / "cache", subject_pattern=pattern))


def test_an_archive_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder; data=clips expects .* Unpack"):
        contents(module(zipped(root, tmp_path / "clips.zip"), tmp_path / "cache"))


def test_trees_say_where_files_lie(root: Path, tmp_path: Path) -> None:
    with open_tree(root, "") as tree:
        assert all(file.location == root / file.path for file in tree.files)
        below = tree.below("sad")
        assert all(file.location == root / "sad" / file.path for file in below.files)
    with open_tree(zipped(root, tmp_path / "clips.zip"), "") as tree:
        assert {file.location for file in tree.files} == {None}


def test_parts_of_combined_data_have_clips(root: Path, tmp_path: Path) -> None:
    parts = [{"name": "clips", "path": str(root), "crop": None, "frames_per_clip": 2}]
    data = build("combined", None, tmp_path / "cache", parts=parts)
    assert {data.clip_of(id) for id in data.store.ids} >= {"clips/happy/actor0_happy", "clips/sad/actor2_sad"}
