"""A table of images: labels, splits, subjects, valence and arousal; every mistake is named with its line."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from src.data.store.packed_store import SPLITS
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, write


def _table(folder: Path, text: str, images: int = 30) -> Path:
    for i in range(images):
        write(folder / "faces" / f"{i}.png")
    write(folder / "faces.csv", text.encode())
    return folder / "faces.csv"


def _rows(images: int = 30) -> str:
    return "".join(f"faces/{i}.png,{('happy', 'sad', 'fear')[i % 3]}\n" for i in range(images))


def test_all_columns(tmp_path: Path) -> None:
    text = (
        "\ufeffPath, Label ,split,valence,arousal,subject,note\r\n"
        "faces/0.png,Happiness,training,0.5,-0.25,anna,x\r\n"
        "\r\n"
        "faces\\1.png,ANGER,valid,-2,,ben,x\r\n"
        f"{tmp_path}/faces/2.png,fear,test,1,-1,,x\r\n"
    )
    records, skipped = contents(build("csv", _table(tmp_path, text), tmp_path / "cache"))
    assert not skipped
    first, second, third = records.values()
    assert list(records) == ["faces/0.png", "faces/1.png", f"{tmp_path}/faces/2.png"]
    assert (first.split, first.label, first.valence, first.arousal) == ("train", "happy", 0.5, -0.25)
    assert (second.split, second.label) == ("val", "angry")
    assert math.isnan(second.valence)
    assert math.isnan(second.arousal)
    assert (third.split, third.valence, third.arousal) == ("test", 1, -1)


def test_splits_are_drawn_by_class(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,label\n" + _rows())
    module = build("csv", path, tmp_path / "cache")
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [24, 3, 3]
    assert [module.class_counts(split).tolist() for split in SPLITS] == [[8, 8, 8], [1, 1, 1], [1, 1, 1]]
    again, _ = contents(build("csv", path, tmp_path / "cache"))
    assert {id for id, r in again.items() if r.split == "test"} == {
        str(id) for id in module.store.ids[module.store.rows("test")]
    }


def test_subjects_never_straddle_drawn_splits(tmp_path: Path) -> None:
    lines = [f"{line},s{i // 3 if i < 27 else ''}" for i, line in enumerate(_rows().splitlines())]
    lines[-3:] = [line.rpartition(",")[0] + "," for line in lines[-3:]]
    records, _ = contents(build("csv", _table(tmp_path, "path,label,subject\n" + "\n".join(lines)), tmp_path / "cache"))
    splits = {f"s{i // 3}": set() for i in range(27)}
    for i in range(27):
        splits[f"s{i // 3}"].add(records[f"faces/{i}.png"].split)
    assert all(len(found) == 1 for found in splits.values())
    assert {record.split for record in records.values()} == set(SPLITS)


def test_a_subject_in_two_stated_splits_is_an_error(tmp_path: Path) -> None:
    text = "path,label,split,subject\nfaces/0.png,sad,train,anna\nfaces/1.png,sad,test,anna\n"
    with pytest.raises(ConfigError, match=r"'anna' is in train \(line 2\) and in test \(line 3\)"):
        contents(build("csv", _table(tmp_path, text), tmp_path / "cache"))


def test_numbers_as_labels_need_names(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,label,split\nfaces/0.png,1,test\n")
    with pytest.raises(ConfigError, match=r"line 2 has the label '1'.*data\.label_names"):
        contents(build("csv", path, tmp_path / "cache"))
    records, _ = contents(build("csv", path, tmp_path / "cache", label_names=["anger", "joy"]))
    assert records["faces/0.png"].label == "happy"
    with pytest.raises(ConfigError, match=r"data\.label_names=\['hungry'\].*neutral"):
        build("csv", path, tmp_path / "cache", label_names=["hungry"])


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,label\n" + _rows() + "faces/pipe.png,happy\n/dev/zero,sad\n")
    os.mkfifo(tmp_path / "faces" / "pipe.png")
    records, skipped = contents(build("csv", path, tmp_path / "cache"))
    assert len(records) == 30
    assert skipped.keys() == {"faces/pipe.png", "/dev/zero"}
    assert all("not a file" in reason for reason in skipped.values())


def test_missing_and_broken_images_are_skipped_with_a_reason(tmp_path: Path) -> None:
    long = "x" * 300 + ".png"
    text = (
        "path,label\n"
        + _rows()
        + f"gone.png,sad\nbad.jpg,sad\n{long},sad\nnul\0.png,sad\nfaces/0.png,fear\nfaces,sad\n"
    )
    write(tmp_path / "bad.jpg", b"text")
    _, skipped = contents(build("csv", _table(tmp_path, text), tmp_path / "cache"))
    assert skipped["gone.png"] == "missing"
    assert "not an image" in skipped["bad.jpg"]
    assert skipped.keys() == {"gone.png", "bad.jpg", long, "nul\0.png", "faces/0.png", "faces"}
    assert skipped["faces/0.png"] == "line 36 lists it again, after line 2"


def test_one_file_in_two_splits_is_reported(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,label,split\nfaces/0.png,sad,train\nfaces/../faces/0.png,sad,test\n")
    records, skipped = contents(build("csv", path, tmp_path / "cache"))
    assert list(records) == ["faces/../faces/0.png"]
    assert "the test split" in skipped["faces/0.png"]


def test_a_changed_image_makes_a_new_store(tmp_path: Path) -> None:
    path = _table(tmp_path, "path,label\n" + _rows())
    before = build("csv", path, tmp_path / "cache").fingerprint
    assert build("csv", path, tmp_path / "cache").fingerprint == before
    write(tmp_path / "faces" / "0.png", key=1000)
    assert build("csv", path, tmp_path / "cache").fingerprint != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns 'nothing'"),
        ("file,emotion\na,b\n", "has the columns 'file,emotion'; expected a CSV file with the columns path,label"),
        ("path;label\na;sad\n", "has the columns 'path;label'"),
        ("path,label\nfaces/0.png,bored\n", "line 2 has the label 'bored'; expected neutral, happy"),
        ("path,label\nfaces/0.png,\n", "line 2 has the label ''"),
        ("path,label\n,sad\n", "line 2 has no path"),
        ("path,label\nfaces/0.png\n", "line 2 has 1 fields; expected 2"),
        ("path,label,split\nfaces/0.png,sad,holdout\n", "line 2 has the split 'holdout'; expected train"),
        ("path,label,valence\nfaces/0.png,sad,1.5\n", r"line 2 has the valence 1.5; expected a number in \[-1, 1\]"),
        ("path,label,arousal\nfaces/0.png,sad,high\n", "line 2 has the arousal 'high'"),
        ("path,label,arousal\nfaces/0.png,sad,inf\n", "line 2 has the arousal inf"),
        ("path,label\n", "no readable image"),
    ],
)
def test_a_broken_table_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = build("csv", _table(tmp_path, text, 1), tmp_path / "cache").store


def test_a_file_that_is_no_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "faces.csv", tmp_path):
        with pytest.raises(ConfigError, match=r"data\.path=.*path,label"):
            _ = build("csv", path, tmp_path / "cache").store
