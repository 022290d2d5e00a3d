"""Tests of combined data sets: classes by name, no image twice, nothing of the test in the training."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src.data.datamodule import StoreDataModule
from src.data.datasets.combined import WHOLE_KEYS
from src.data.faces.generator import draw_face
from src.data.selection.cross_duplicates import Candidates, find_duplicates
from src.data.store.packed_store import SPLITS, PackedStore, Record
from src.data.store.store_writer import write_store
from src.data.vocabulary import CANONICAL
from src.engine.build import build_data
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from tests.data.datasets.test_fer2013 import KAGGLE, text
from tests.data.datasets.test_ferplus import HEADER
from tests.helpers.image_files import build, encoded, write
from tests.helpers.running import compose_config

Image = NDArray[np.uint8]
# What each part holds: split, image, class. Images are faces by number; with a "~" they are near duplicates of it.
FIRST = [
    ("train", "0", "happy"), ("train", "1", "sad"), ("train", "2", "angry"), ("train", "3", "fear"),
    ("train", "1", "happy"),  # a duplicate within training, with another label
    ("val", "4", "happy"), ("val", "5", "sad"), ("test", "6", "happy"), ("test", "7", "neutral"),
]  # fmt: skip
SECOND = [
    ("train", "6~", "happy"),  # the first one's test image
    ("train", "5", "sad"),  # its validation image
    ("val", "7", "neutral"),  # its test image
    ("train", "10", "contempt"), ("train", "2~", "angry"),  # a duplicate across training
    ("val", "11", "happy"), ("test", "0", "happy"),  # the first one's training image
    ("test", "3~", "fear"), ("test", "12", "sad"), ("test", "12", "sad"),
]  # fmt: skip
KEPT_FIRST = {("train", "1"), ("train", "2"), ("val", "4"), ("val", "5"), ("test", "6"), ("test", "7")}
KEPT_SECOND = {("train", "10"), ("val", "11"), ("test", "0"), ("test", "3~"), ("test", "12")}


def face(name: str) -> Image:
    image = draw_face(11, int(name.rstrip("~")), 48, grayscale=True).image[..., 0]
    if not name.endswith("~"):
        return image
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("parts")
    for part, listing in (("first", FIRST), ("second", SECOND)):
        for number, (split, name, label) in enumerate(listing):
            write(root / part / split / label / f"{number:02}_{name}.png", encoded(face(name)))
    return [root / "first", root / "second"]


def combined(cache: Path, *parts: dict[str, Any], **options: Any) -> StoreDataModule:
    return build("combined", Path("unused"), cache, parts=list(parts), **options)


def both(folders: list[Path], cache: Path, **options: Any) -> StoreDataModule:
    return combined(cache, *({"name": "folder", "path": str(path)} for path in folders), **options)


def kept(data: StoreDataModule, part: str) -> set[tuple[str, str]]:
    store = data.store
    rows = [row for row in range(len(store)) if store.ids[row].split("/")[0] == part]
    listing = [(SPLITS[store.splits[row]], Path(store.ids[row]).stem.split("_")[1]) for row in rows]
    assert len(set(listing)) == len(listing)
    return set(listing)


def test_no_image_is_there_twice(folders: list[Path], tmp_path: Path) -> None:
    data = both(folders, tmp_path)
    assert kept(data, "folder") == KEPT_FIRST
    assert kept(data, "folder_2") == KEPT_SECOND
    assert data.class_names == ("neutral", "happy", "sad", "fear", "angry", "contempt")
    assert json.loads((data.store.path / "store.json").read_text())["left_out"] == {
        "folder, train: an exact duplicate stays": 2,
        "folder, train: a near duplicate of another data set stays": 1,
        "folder_2, train: an exact duplicate stays": 1,
        "folder_2, train: a near duplicate of another data set stays": 2,
        "folder_2, val: an exact duplicate stays": 1,
        "folder_2, test: an exact duplicate stays": 1,
    }
    assert [len(data.split_rows(split)[0]) for split in SPLITS] == [3, 3, 5]
    assert len(data.clean_rows("test")) == 5


def test_images_and_labels_are_those_of_the_parts(folders: list[Path], tmp_path: Path) -> None:
    data = both(folders, tmp_path)
    listing = {"folder": FIRST, "folder_2": SECOND}
    for row, name in enumerate(data.store.ids):
        number, image = Path(name).stem.split("_")
        split, expected, label = listing[name.split("/")[0]][int(number)]
        assert (image, data.store.class_names[data.store.labels[row]]) == (expected, label)
        assert SPLITS[data.store.splits[row]] == split
        np.testing.assert_array_equal(data.store.image(row), face(image))


def test_the_part_named_first_wins(folders: list[Path], tmp_path: Path) -> None:
    data = both(folders[::-1], tmp_path)
    assert ("train", "2~") in kept(data, "folder")
    assert ("train", "2") not in kept(data, "folder_2")
    assert data.fingerprint != both(folders, tmp_path).fingerprint


def test_options_of_a_part(folders: list[Path], tmp_path: Path) -> None:
    first, second = ({"name": "folder", "path": str(path)} for path in folders)
    data = combined(tmp_path, first | {"classes": ["happy", "sad"]}, second)
    assert {name for _, name in kept(data, "folder")} == {"1", "4", "5", "6"}
    # The duplicate that the first part does not give leaves the second part's in peace.
    assert ("train", "2~") in kept(data, "folder_2")
    assert data.store.left_out["folder, test: by its classes or exclude"] == 1
    assert data.fingerprint != both(folders, tmp_path).fingerprint


def test_classes_of_the_whole(folders: list[Path], tmp_path: Path) -> None:
    data = both(folders, tmp_path, merge={"negative": ["sad", "fear", "angry"]}, classes=["happy", "negative"])
    assert data.class_names == ("happy", "negative")
    assert data.class_counts("test").tolist() == [2, 2]


def voted(folder: Path) -> dict[str, str]:
    """A FER2013 of three happy faces, and votes of which the first image's say sad and angry."""
    rows = [(20, "Training", "0,0,0,6,4,0,0,0,0,0"), (21, "PublicTest", "0,9,0,0,0,0,0,0,0,0")]
    rows.append((22, "PrivateTest", "9,0,0,0,0,0,0,0,0,0"))
    images = [f"{KAGGLE.index('happy')},{text(face(str(i)).ravel())},{usage}" for i, usage, _ in rows]
    votes = [f"{usage},x,{numbers}" for _, usage, numbers in rows]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *images, ""]))
    (folder / "votes.csv").write_text("\n".join([HEADER, *votes, ""]))
    return {"path": str(folder / "fer2013.csv"), "votes_path": str(folder / "votes.csv")}


def test_votes_beside_the_labels_stay_a_second_vocabulary(folders: list[Path], tmp_path: Path) -> None:
    other = {"name": "folder", "path": str(folders[0])}
    data = combined(tmp_path, {**voted(tmp_path), "name": "fer2013_votes", "mode": "soft"}, other)
    names = ("neutral", "happy", "sad", "fear", "angry")
    assert data.vocabularies == {"combined": names, "ferplus": CANONICAL}
    assert data.derived == ("valence_arousal",)
    batch = next(iter(data.train_dataloader()))
    first = [data.store.ids[row] for row in batch["row"].tolist()].index("fer2013_votes/0")
    assert names[batch["label"][first]] == "happy"
    votes = batch["second_target"][first]
    assert (votes[CANONICAL.index("sad")], votes[CANONICAL.index("angry")]) == pytest.approx((0.6, 0.4))
    others = torch.arange(len(batch["row"])) != first
    assert torch.isnan(batch["second_target"][others]).all() and torch.isnan(batch["valence"][others]).all()
    assert "target" not in batch


def test_the_classes_are_called_as_those_of_the_first_part_if_they_are_its_own(tmp_path: Path) -> None:
    for part, names in (("a", KAGGLE), ("b", ("happy", "sad"))):
        for key, (name, i) in enumerate(product(names, range(3))):
            write(tmp_path / part / name / f"{i}.png", key=key + 100 * len(names))
    votes = {**voted(tmp_path), "name": "fer2013_votes", "mode": "soft"}
    other, few = ({"name": "folder", "path": str(tmp_path / part), "split_seed": 1} for part in ("a", "b"))
    assert set(combined(tmp_path, votes, other).vocabularies) == {"fer2013", "ferplus"}
    assert set(combined(tmp_path, other, votes).vocabularies) == {"folder", "ferplus"}
    assert combined(tmp_path, few, other).vocabulary == "combined"


def test_votes_of_two_kinds_are_refused(tmp_path: Path) -> None:
    files = voted(tmp_path)
    parts = [{**files, "name": name, "mode": "soft"} for name in ("fer2013_votes", "ferplus")]
    with pytest.raises(ConfigError, match=r"data\.parts: ferplus has votes for its classes, another part"):
        _ = combined(tmp_path, *parts, dedup=False).store


def test_a_part_brings_its_landmarks_and_at_most_so_many_images_of_a_class(folders: list[Path], tmp_path: Path) -> None:
    store = build("folder", folders[0], tmp_path).store
    points = np.random.default_rng(0).uniform(0, 1, (len(store), 68, 2))
    np.savez(tmp_path / "points.npz", ids=store.ids, points=points)
    first, second = ({"name": "folder", "path": str(path)} for path in folders)
    data = combined(tmp_path, {**first, "landmarks_path": str(tmp_path / "points.npz")}, second)
    assert data.has_landmarks
    for row, name in enumerate(data.store.ids):
        part, image = name.split("/", 1)
        expected = points[list(store.ids).index(image)] * 48 - 0.5 if part == "folder" else np.nan
        np.testing.assert_allclose(data.store.landmarks[row], np.broadcast_to(expected, (68, 2)), atol=1e-4)
    limited = combined(tmp_path, {**first, "max_per_class": 1}, second)
    assert limited.store.left_out["folder, train: by its classes or exclude"] == 1
    assert limited.fingerprint != both(folders, tmp_path).fingerprint


def test_distributions_and_labels_together(folders: list[Path], tmp_path: Path) -> None:
    ferplus = {**voted(tmp_path), "name": "ferplus"}
    data = combined(tmp_path, ferplus | {"mode": "soft"}, {"name": "folder", "path": str(folders[0])})
    targets = {}
    for batch in data.train_dataloader():
        targets |= dict(zip(data.store.ids[batch["row"].numpy()].tolist(), batch["target"].tolist(), strict=True))
    sad, angry = data.class_names.index("sad"), data.class_names.index("angry")
    assert (targets["ferplus/0"][sad], targets["ferplus/0"][angry]) == pytest.approx((0.6, 0.4))
    for name, target in targets.items():
        assert sum(target) == pytest.approx(1)
        assert name.startswith("ferplus") or max(target) == 1


def test_near_duplicates_of_a_dropped_image_stay(tmp_path: Path) -> None:
    """B is like A and like C, but A and C are not alike: with A, B goes and C stays."""
    rng = np.random.default_rng(0)
    base = cv2.GaussianBlur(rng.integers(0, 256, (48, 48)).astype(np.float32), (0, 0), 4)
    noise = cv2.GaussianBlur(rng.normal(size=(48, 48)).astype(np.float32), (0, 0), 4)
    images = [base + step * 0.17 * base.std() * noise / noise.std() for step in range(3)]
    low, high = min(p.min() for p in images), max(p.max() for p in images)
    stores = []
    for name, image, split in zip("abc", images, ("test", "val", "train"), strict=True):
        pixels = np.round((image - low) / (high - low) * 255).astype(np.uint8)
        stores.append(write_store(tmp_path / name, [Record(name, split, "sad", pixels)], max_bad=0))
    one = np.zeros(3, np.int64)
    exact, near = find_duplicates(stores, Candidates(np.arange(3), one, np.array([2, 1, 0]), one))
    assert not exact.any()
    assert near.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (None, "data.parts is not set"),
        ([], "data.parts is not set"),
        ([{"name": "nowhere"}], "data.parts, nowhere: data='nowhere' is unknown; expected one of affectnet"),
        ([{"path": "x"}], "data='None' is unknown"),
        ([{"name": "combined", "parts": []}], "combined cannot be a part of itself"),
        ([{"name": "folder", "batch_size": 3}], "data.parts, folder: batch_size=3 is no option of a part"),
        ([{"name": "folder", "_target_": "os.system"}], "_target_=os.system is no option of a part"),
        ([{"name": "folder", "split_seed": "x"}], "data.parts, folder: data.split_seed=x; expected a whole number"),
        ([{"name": "fer2013"}], "raw/fer2013; data=fer2013"),
    ],
)
def test_mistakes(tmp_path: Path, parts: Any, found: str) -> None:
    with pytest.raises(ConfigError) as error:
        build("combined", tmp_path, tmp_path, parts=parts).prepare_data()
    assert found in str(error.value)


def test_options_of_the_whole_exist() -> None:
    assert set(WHOLE_KEYS) <= set(load_group("data", "folder"))


def test_from_the_command_line(folders: list[Path], tmp_path: Path) -> None:
    parts = ", ".join(f"{{name: folder, path: {path}}}" for path in folders)
    cfg = compose_config(
        "train", "data=combined", f"data.parts=[{parts}]", f"run_dir={tmp_path}", f"data_dir={tmp_path}"
    )
    data = build_data(cfg, transform={"name": "none"}, image_size=64)
    data.prepare_data()
    assert isinstance(data.store, PackedStore)
    assert len(data.store) == len(KEPT_FIRST) + len(KEPT_SECOND)
