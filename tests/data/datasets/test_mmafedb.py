"""MMAFEDB's layout, as a folder and as Kaggle's zip."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from src.data.audit.audit import Audit, audit
from src.data.datasets.mmafedb import LABELS
from src.data.store.packed_store import SPLITS
from src.engine.prepare import prepare
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, write, zipped
from tests.helpers.running import compose_config


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Images of several sizes, gray and colored, below the folder MMAFEDB."""
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


def expw(folder: Path) -> Path:
    """Four sad ExpW images cut in the order of their rows, four happy ones that are not, and FER2013's of the same."""
    places = {
        "sad": {1: "valid", 4: "valid", 10: "test", 12: "train"},
        "happy": {row: ("valid", "test", "train")[row % 3] for row in range(20, 32)},
    }
    for label, rows in places.items():
        for row, split in rows.items():
            write(folder / split / label / f"{row}Exp4{label}_girl_{row}.jpg")
        for number, (split, usage) in enumerate({"train": "Training", "valid": "PublicTest"}.items()):
            write(folder / split / label / f"{usage}_{number}.png", key=len(label) * 10 + number)
    # Of another collection, and a row that is not ExpW's numbering.
    write(folder / "test" / "fear" / "x3_69Exp1fear_2.jpg")
    write(folder / "test" / "fear" / "me.jpg")
    # The same image in both collections, and once more in FER2013.
    shared = encoded(pixels(77))
    write(folder / "test" / "sad" / "PrivateTest_9.png", shared)
    write(folder / "train" / "sad" / "Training_8.png", shared)
    write(folder / "train" / "sad" / "90Exp4crying_9.png", shared)
    return folder


def test_the_audit_says_what_it_is(tmp_path: Path) -> None:
    module = build("mmafedb", expw(tmp_path / "MMAFEDB"), tmp_path / "cache")
    found = audit(module.store, origins=module.origins(), remarks=module.remarks())
    assert found.origins == {
        "ExpW": {"train": 6, "val": 6, "test": 6},
        "FER2013": {"train": 3, "val": 2, "test": 1},
        "unknown": {"train": 0, "val": 0, "test": 1},
    }
    assert found.shared["ExpW"] == {"FER2013": 1, "unknown": 0}
    assert found.shared["FER2013"] == {"ExpW": 2, "unknown": 0}
    assert Audit.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    contents, order = found.remarks
    assert contents == (
        "By the names of its files it holds 6 of the 35,887 images of FER2013, 18 of the 91,793 images of ExpW."
    )
    assert "in 1 classes (sad)" in order


def test_a_tree_of_other_names_gets_no_remark(kaggle: Path, tmp_path: Path) -> None:
    assert build("mmafedb", kaggle, tmp_path / "cache").remarks() == []


def test_prepare_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expw(tmp_path / "raw" / "mmafedb" / "MMAFEDB")
    (tmp_path / "run").mkdir()
    prepare(compose_config("prepare", "data=mmafedb", f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}"))
    printed = capsys.readouterr().err
    for part in ("Where they come from", "FER2013 1, unknown 0", "split in the order of its rows"):
        assert part in printed, printed


real = os.environ.get("MMAFEDB_PATH")


@pytest.mark.skipif(not real, reason="set MMAFEDB_PATH to MMAFEDB, or its ExpW part")
def test_the_real_images(tmp_path: Path) -> None:
    module = build("mmafedb", Path(str(real)), tmp_path)
    origins = np.array(module.origins())
    counts = {
        split: Counter(module.store.labels[(module.store.splits == s) & (origins == "ExpW")].tolist())
        for s, split in enumerate(SPLITS)
    }
    names = module.store.class_names
    expected = {"neutral": 5232, "happy": 4580, "sad": 1583, "surprise": 1059, "fear": 163, "angry": 550}
    for split in ("val", "test"):
        assert {name: counts[split][names.index(name)] for name in expected} == expected
    assert sum(counts["train"].values()) == 61_191
    assert "unknown" not in origins
    assert "in 5 classes (neutral, happy, sad, surprise, angry)" in module.remarks()[1]
