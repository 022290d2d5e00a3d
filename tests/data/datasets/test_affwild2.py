"""Aff-Wild2 in the layout of the ABAW challenges: which frame a line is about, and in which split its video is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from src.data.store.packed_store import SPLITS
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, write, zipped

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
EXPRESSIONS, AFFECT = "EXPR_Recognition_Challenge", "VA_Estimation_Challenge"


def faces(root: Path, video: str, numbers) -> None:
    for number in numbers:
        write(root / "cropped_aligned" / video / f"{number:05}.jpg", encoded(pixels(number), "PNG"))


def expressions(root: Path, name: str, lines: str, header: str = HEADER) -> None:
    write(root / EXPRESSIONS / f"{name}.txt", f"{header}\n{lines}\n".encode())


def affect(root: Path, name: str, lines: str, header: str = "valence,arousal") -> None:
    write(root / AFFECT / f"{name}.txt", f"{header}\n{lines}\n".encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A video of each set with both annotations, and the other way round in the two challenges."""
    root = tmp_path / "affwild2"
    for video in ("a", "b"):
        faces(root, video, (1, 2, 3, 5, 6))
    write(root / "AU_Detection_Challenge" / "Train_Set" / "a.txt", b"AU1,AU2\n0,1\n")
    expressions(root, "Train_Set/a", "0\n-1\n4\n5\n7\n1")
    affect(root, "Validation_Set/a", "0.5,-0.25\n0.1,0.2\n-5,-5\n0.3,0.3\n0.4,0.4\n-5.0,0.6")
    expressions(root, "Validation_Set/b", "6\n3")
    affect(root, "Train_Set/b", "0,0\n\n0.3,0.3")
    return root


def test_expressions_bring_valence_and_arousal_with_them(root: Path, tmp_path: Path) -> None:
    data = build("affwild2", root, tmp_path / "cache", frame_step=1, val_share=0)
    records, skipped = contents(data)
    assert not skipped
    known = {id: (record.label, record.valence, record.arousal) for id, record in records.items()}
    assert known["a/00001.jpg"] == ("neutral", 0.5, -0.25)
    assert known["b/00001.jpg"] == ("surprise", 0, 0)
    assert [label for label, _, _ in known.values()] == ["neutral", "happy", "angry", "surprise", "fear"]
    assert list(records) == ["a/00001.jpg", "a/00003.jpg", "a/00006.jpg", "b/00001.jpg", "b/00002.jpg"]
    assert all(math.isnan(value) for value in known["a/00003.jpg"][1:])
    assert math.isnan(known["a/00006.jpg"][1])
    assert known["a/00006.jpg"][2] == 0.6
    assert math.isnan(known["b/00002.jpg"][1])  # an empty line is a frame, too
    assert {record.split for id, record in records.items() if id.startswith("b")} == {"test"}
    assert np.array_equal(records["a/00006.jpg"].image, pixels(6))
    assert sorted(data.left_out.values()) == [1, 1]  # frame 4 has no face, frame 5 is another expression
    assert {data.clip_of(id) for id in records} == {"a", "b"}


def test_valence_and_arousal_come_with_or_without_an_expression(root: Path, tmp_path: Path) -> None:
    faces(root, "c", [1])
    affect(root, "Train_Set/c", "0,0")
    options = {"annotations": "valence_arousal", "frame_step": 1, "val_share": 0}
    data = build("affwild2", root, tmp_path / "cache", **options)
    records, _ = contents(data)
    labels = {id: record.label for id, record in records.items()}
    assert labels["a/00002.jpg"] == labels["a/00005.jpg"] == labels["c/00001.jpg"] == ""
    assert labels["a/00006.jpg"] == "angry"
    assert "a/00003.jpg" not in labels
    assert {record.split for id, record in records.items() if id.startswith("a")} == {"test"}
    store = data.store
    assert (store.labels < 0).sum() == list(labels.values()).count("") == 4
    rows, indices = data.loaded_rows("test")
    assert [store.ids[row] for row in rows] == [f"a/0000{i}.jpg" for i in (1, 2, 5, 6)]
    assert (indices < 0).tolist() == [False, True, True, False]
    served, served_labels, n_unmapped = data.split_rows("test")
    assert served.tolist() == rows[indices >= 0].tolist()
    assert served_labels.tolist() == indices[indices >= 0].tolist()
    assert n_unmapped == 0


def test_training_videos_are_thinned_and_those_of_the_test_are_whole(tmp_path: Path) -> None:
    root = tmp_path / "affwild2"
    for video, split in (("a", "Train_Set"), ("b", "Train_Set"), ("c", "Validation_Set")):
        faces(root, video, range(1, 8))
        expressions(root, f"{split}/{video}", "\n".join("0" * 7))
    records, _ = contents(build("affwild2", root, tmp_path / "cache", frame_step=3))
    numbers = {video: [int(id[2:7]) for id in records if id.startswith(video)] for video in "abc"}
    assert numbers == {"a": [1, 4, 7], "b": [1, 4, 7], "c": list(range(1, 8))}


def test_a_video_is_in_one_split_and_so_are_the_people_in_it(tmp_path: Path) -> None:
    root = tmp_path / "affwild2"
    for i in range(10):
        for video in (f"{i}_left", f"{i}_right", f"{i}x"):
            faces(root, video, (1, 2))
            expressions(root, f"Train_Set/{video}", "0\n5")
    faces(root, "t", [1])
    expressions(root, "Validation_Set/t", "5")
    records, _ = contents(build("affwild2", root, tmp_path / "cache", frame_step=1, val_share=0.3))
    splits: dict[str, set[str]] = {}
    for id, record in records.items():
        splits.setdefault(id.partition("/")[0].partition("_")[0], set()).add(record.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == set(SPLITS)


def test_frames_that_cannot_be_read_and_videos_without_faces_are_named(root: Path, tmp_path: Path) -> None:
    expressions(root, "Train_Set/gone", "0")
    write(root / "cropped_aligned" / "a" / "00003.jpg", b"text")
    _, skipped = contents(build("affwild2", root, tmp_path / "cache", frame_step=1, val_share=0))
    assert skipped.keys() == {"gone", "a/00003.jpg"}
    assert "no folder of faces in cropped_aligned" in skipped["gone"]


def test_faces_of_later_batches_are_found(root: Path, tmp_path: Path) -> None:
    (root / "batch2").mkdir()
    (root / "batch2" / "cropped_aligned_new_50_vids").mkdir()
    (root / "cropped_aligned" / "b").rename(root / "batch2" / "cropped_aligned_new_50_vids" / "b")
    records, skipped = contents(build("affwild2", root, tmp_path / "cache", frame_step=1, val_share=0))
    assert not skipped
    assert "b/00001.jpg" in records


@pytest.mark.parametrize(
    ("write_file", "message"),
    [
        (
            lambda root: expressions(root, "Train_Set/a", "0\n8"),
            "line 3 of .* has '8'; expected -1 or a class",
        ),
        (lambda root: expressions(root, "Train_Set/a", "0.5"), "line 2 of .* has '0.5'"),
        (lambda root: expressions(root, "Train_Set/a", "0,1"), "line 2 of .* has 2 values; expected 1"),
        (lambda root: expressions(root, "Train_Set/a", "0", "Neutral,Bored"), "'bored' is not a known expression"),
        (
            lambda root: affect(root, "Train_Set/b", "0.1,1.5"),
            "line 2 of .* has '1.5'; expected a number in",
        ),
        (lambda root: affect(root, "Train_Set/b", "0.1,nan"), "line 2 of .* has 'nan'"),
        (lambda root: affect(root, "Train_Set/b", "0.1"), "line 2 of .* has 1 values; expected 2"),
        (lambda root: expressions(root, "Train_Set/b", "0"), "two annotations of the video b"),
        (lambda root: (root / "cropped_aligned").rename(root / "faces"), "has no folder cropped_aligned; expected Aff"),
    ],
)
def test_broken_annotations_are_refused_with_their_line(root: Path, tmp_path: Path, write_file, message: str) -> None:
    write_file(root)
    with pytest.raises(ConfigError, match=message):
        contents(build("affwild2", root, tmp_path / "cache"))


def test_other_layouts_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder; expected Aff-Wild2's"):
        contents(build("affwild2", zipped(root, tmp_path / "a.zip"), tmp_path / "cache"))
    (root / EXPRESSIONS).rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="has no annotations of expression; expected Aff-Wild2's"):
        contents(build("affwild2", root, tmp_path / "cache"))
