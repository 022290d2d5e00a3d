"""AffectNet's three forms: labels, crops, landmarks, cleaning, and what is left out."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src.data.datasets.affectnet import FITTING, LABELS, AffectNetDataModule
from src.data.datasets.affectnet_releases import COLUMNS, CSV_FOLDER
from src.data.readers.images import MAX_SIDE
from src.data.store.packed_store import SPLITS
from src.data.vocabulary import CANONICAL
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, contents, encoded, pixels, write

# Valence and arousal that fit each expression.
FIT = [(0, 0), (0.5, 0), (-0.5, -0.2), (0.1, 0.5), (-0.3, 0.4), (-0.5, 0.1), (-0.2, 0.6), (-0.4, 0)]
SIDE = 24


def _landmarks(key: int) -> NDArray[np.float32]:
    """68 points whose box is (4, 6) to (15, 17): the crop of EmoNet's authors has a side of 20 about (9.5, 11.5)."""
    points = np.random.default_rng(key).uniform((4, 6), (15, 17), (68, 2)).astype(np.float32)
    points[:2] = (4, 6), (15, 17)
    return points


def _module(root: Path, **options: Any) -> AffectNetDataModule:
    module = build("affectnet", root, root.parent / "cache", **options)
    assert isinstance(module, AffectNetDataModule)
    return module


def _csv_line(name: str, expression: int, valence: float, arousal: float, box: str = "2,3,16,18") -> str:
    points = ";".join(f"{value:.2f}" for value in _landmarks(0).ravel())
    return f"{name},{box},{points},{expression},{valence},{arousal}\n"


@pytest.fixture
def csv_release(tmp_path: Path) -> Path:
    """The first release: 10 training images and one for validation of each class, and one of each non-class."""
    root = tmp_path / "AffectNet"
    lists: dict[str, str] = {"training.csv": ",".join(COLUMNS) + "\n", "validation.csv": ""}
    for expression in range(11):
        valence, arousal = FIT[expression] if expression < 8 else (-2, -2)
        numbers = {"training.csv": range(10 if expression < 8 else 1), "validation.csv": range(50, 51)}
        for table, drawn in numbers.items():
            for i in drawn:
                name = f"{expression}/{table[:5]}{i}.png"
                write(root / "Manually_Annotated_Images" / name, encoded(pixels(100 * expression + i, SIDE)))
                lists[table] += _csv_line(name, expression, valence, arousal)
    for table, text in lists.items():
        write(root / CSV_FOLDER / table, text.encode())
    return root


@pytest.fixture
def annotation_release(tmp_path: Path) -> Path:
    """The 8-label release: four training images and one for validation of each class."""
    root = tmp_path / "AffectNet8"
    for expression in range(8):
        for split, drawn in (("train_set", range(4)), ("val_set", range(4, 5))):
            for i in drawn:
                id = 10 * expression + i
                write(root / split / "images" / f"{id}.jpg", encoded(pixels(id, SIDE), "JPEG"))
                for part, value in (("exp", str(expression)), ("val", str(FIT[expression][0])), ("aro", "-2")):
                    (root / split / "annotations").mkdir(exist_ok=True)
                    np.save(root / split / "annotations" / f"{id}_{part}.npy", value)
                np.save(root / split / "annotations" / f"{id}_lnd.npy", _landmarks(id).ravel())
    return root


def _splits_and_reasons(module: AffectNetDataModule) -> tuple[dict[str, str], dict[str, str]]:
    """Like `contents`, for data where a skipped image has the id of one that is read."""
    entries = list(module.records())
    splits = {entry.id: entry.split for entry in entries if hasattr(entry, "split")}
    return splits, {entry.id: entry.reason for entry in entries if hasattr(entry, "reason")}


def test_the_labels_are_the_canonical_order() -> None:
    assert LABELS == CANONICAL
    assert FITTING.keys() == set(CANONICAL)


def test_the_csv_release(csv_release: Path) -> None:
    module = _module(csv_release)
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [72, 8, 8]
    assert module.class_counts("val").tolist() == [1] * 8
    assert module.left_out == {f"labeled {name}": 2 for name in ("none", "uncertain", "no face")}
    assert module.store.left_out == dict(module.left_out)
    assert module.has_valence_arousal
    record = contents(module)[0]["6/train3.png"]
    assert (record.label, record.valence, record.arousal) == ("angry", -0.2, 0.6)
    assert np.array_equal(record.image, pixels(603, SIDE)[3:21, 2:18])
    assert record.landmarks is not None
    assert np.allclose(record.landmarks, _landmarks(0) - (2, 3), atol=0.01)


def test_the_annotation_release(annotation_release: Path) -> None:
    module = _module(annotation_release, val_share=0.25)
    assert [len(module.split_rows(split)[0]) for split in SPLITS] == [24, 8, 8]
    record = contents(module)[0]["train_set/images/21.jpg"]
    assert (record.label, record.valence) == ("sad", -0.5)
    assert math.isnan(record.arousal)
    assert record.image.shape == (SIDE, SIDE, 3)
    assert np.allclose(record.landmarks, _landmarks(21))
    assert module.store.landmarks is not None


def test_a_crop_beyond_the_image_is_black_there(csv_release: Path) -> None:
    name = "1/train0.png"
    table = csv_release / CSV_FOLDER / "training.csv"
    table.write_text(_csv_line(name, 1, 0.5, 0, box="-4,10,20,20"))
    image = contents(_module(csv_release))[0][name].image
    assert image.shape == (20, 20, 3)
    assert not image[:, :4].any()
    assert not image[14:].any()
    assert np.array_equal(image[:14, 4:], pixels(100, SIDE)[10:, :16])


def test_landmarks_shrink_with_the_image(csv_release: Path) -> None:
    name = "1/large.png"
    write(csv_release / "Manually_Annotated_Images" / name, encoded(pixels(1, 2 * MAX_SIDE)))
    table = csv_release / CSV_FOLDER / "training.csv"
    table.write_text(_csv_line(name, 1, 0.5, 0, box=f"0,0,{2 * MAX_SIDE},{2 * MAX_SIDE}"))
    record = contents(_module(csv_release))[0][name]
    assert record.image.shape == (MAX_SIDE, MAX_SIDE, 3)
    assert np.allclose(record.landmarks, (_landmarks(0) + 0.5) / 2 - 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("label", "fits", "fails"),
    [
        ("neutral", [(0, 0), (0.1, -0.1)], [(0.2, 0), (0.5, 0.5)]),
        ("happy", [(0.3, -0.5)], [(-0.1, 0.5), (0.1, 0.1), (0, 0.5)]),
        ("sad", [(-0.3, 0.9)], [(0.1, 0.5), (-0.1, 0.1)]),
        ("surprise", [(0.9, 0.1)], [(0.9, 0), (0.1, 0.1)]),
        ("fear", [(0, 0.3), (-0.3, 0)], [(0.1, 0.5), (-0.5, -0.1), (-0.1, 0.1)]),
        ("disgust", [(-0.31, 0)], [(-0.29, 0), (0.1, 0.9)]),
        ("angry", [(0.3, 0.1)], [(-0.5, 0), (0, 0.1)]),
        ("contempt", [(-0.21, 0)], [(0.1, 0.5), (-0.1, 0)]),
    ],
)
def test_emonets_cleaning_rules(label: str, fits: list[tuple[float, float]], fails: list[tuple[float, float]]) -> None:
    rule = FITTING[label]
    assert all(rule(v, a, math.hypot(v, a)) for v, a in fits)
    assert not any(rule(v, a, math.hypot(v, a)) for v, a in [*fails, (math.nan, math.nan)])


def test_cleaning_keeps_what_agrees(csv_release: Path) -> None:
    table = csv_release / CSV_FOLDER / "training.csv"
    affects = {"1/train0.png": (0.5, 0), "1/train1.png": (-0.5, 0), "1/train2.png": (-2, -2)}
    table.write_text("".join(_csv_line(name, 1, *affect) for name, affect in affects.items()))
    (csv_release / CSV_FOLDER / "validation.csv").unlink()
    assert contents(_module(csv_release))[0].keys() == affects.keys()
    module = _module(csv_release, cleaned=True)
    assert contents(module)[0].keys() == {"1/train0.png"}
    assert module.left_out == {"valence and arousal do not fit the expression": 2}


def test_what_is_broken_is_named(csv_release: Path, annotation_release: Path) -> None:
    table = csv_release / CSV_FOLDER / "training.csv"
    lines = [
        _csv_line("1/train0.png", 1, 0.5, 0),
        _csv_line("1/gone.png", 1, 0.5, 0),
        _csv_line("1/train1.png", 1, 0.5, 0, box="0,0,1e9,1e9"),
        _csv_line("1/train2.png", 1, 0.5, 0, box="90,90,8,8"),
        _csv_line("1/train3.png", 1, 0.5, 0, box="NULL,0,8,8"),
        _csv_line("1/train4.png", 77, 0.5, 0),
        _csv_line("1/valid50.png", 1, 0.5, 0),
    ]
    table.write_text("".join(lines))
    records, skipped = _splits_and_reasons(_module(csv_release))
    assert records["1/valid50.png"] == "test"
    assert skipped["1/gone.png"] == "missing"
    assert "face box" in skipped["1/train1.png"]
    assert "face box" in skipped["1/train2.png"]
    assert "line 5 of training.csv" in skipped["1/train3.png"]
    assert "77" in skipped["1/train4.png"]
    assert skipped["1/valid50.png"] == "listed more than once; it counts for test"

    folder = annotation_release / "train_set"
    (folder / "annotations" / "0_exp.npy").unlink()
    (folder / "annotations" / "1_val.npy").write_bytes(b"")
    np.save(folder / "annotations" / "2_aro.npy", np.array([{}], dtype=object))
    (folder / "images" / "3.jpg").unlink()
    _, skipped = contents(_module(annotation_release))
    assert skipped["train_set/images/0.jpg"] == "no annotation 0_exp.npy"
    assert skipped["train_set/images/3.jpg"] == "missing"
    assert {"train_set/images/1.jpg", "train_set/images/2.jpg"} <= skipped.keys()


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickles_of_the_authors_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "test_fullpath.pkl").write_bytes(pickle.dumps({"folder": Touch(tmp_path / "trace")}))
    with pytest.raises(
        ConfigError, match=r"holds none; expected AffectNet's folder with Manually_Annotated_file_lists/"
    ):
        contents(_module(tmp_path))
    assert not (tmp_path / "trace").exists()


def test_a_table_may_not_lead_outside(csv_release: Path) -> None:
    write(csv_release.parent / "3.png")
    table = csv_release / CSV_FOLDER / "training.csv"
    with table.open("a") as text:
        text.write(_csv_line("../../3.png", 1, 0.5, 0))
    assert _splits_and_reasons(_module(csv_release))[1]["../../3.png"] == "a path with '..'"


def test_a_folder_without_a_form_or_with_two_is_an_error(csv_release: Path, tmp_path: Path) -> None:
    write(tmp_path / "faces" / "1.png")
    with pytest.raises(ConfigError, match=r"data\.path=.*holds none.*train_set"):
        contents(_module(tmp_path / "faces"))
    (csv_release / "val_set" / "annotations").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"more than one form \(csv, annotations\): set data\.release"):
        contents(_module(csv_release))
    assert "6/train3.png" in contents(_module(csv_release, release="csv"))[0]


def test_images_elsewhere_are_an_error(csv_release: Path) -> None:
    (csv_release / "Manually_Annotated_Images").rename(csv_release / "pictures")
    with pytest.raises(ConfigError, match=r"none of the images.*Manually_Annotated_Images"):
        contents(_module(csv_release))


def test_the_cleaning_makes_another_store(csv_release: Path) -> None:
    assert _module(csv_release).fingerprint != _module(csv_release, cleaned=True).fingerprint
