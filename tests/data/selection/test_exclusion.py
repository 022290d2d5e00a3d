"""Tests of `data.exclude`: images that another data set has, exactly or nearly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.data.datamodule import StoreDataModule
from src.data.faces.generator import draw_face
from src.data.store.packed_store import SPLITS
from src.utils.errors import ConfigError
from tests.data.datasets.test_fer2013 import KAGGLE, text
from tests.helpers.image_files import build, encoded, write

N = 12  # faces of the small FER2013: 6 / 3 / 3
USAGES = ("Training",) * 6 + ("PublicTest",) * 3 + ("PrivateTest",) * 3


def face(index: int) -> NDArray[np.uint8]:
    return draw_face(7, index, 48, grayscale=True).image[..., 0]


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fer2013") / "fer2013.csv"
    rows = [f"{KAGGLE.index('happy')},{text(face(i).ravel())},{usage}" for i, usage in enumerate(USAGES)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows, ""]))
    return path


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces 0 to 9 of FER2013, the odd ones as RGB JPEGs, and as many new ones; in every split."""
    folder = tmp_path_factory.mktemp("larger")
    for i in range(20):
        image, place = face(i if i < 10 else 20 + i), folder / SPLITS[i % 3] / "happy"
        if i < 10 and i % 2:
            write(place / f"{i}.jpg", encoded(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), "JPEG", quality=90))
        else:
            write(place / f"{i}.png", encoded(image))
    return folder


def served_ids(data: StoreDataModule) -> set[int]:
    return {int(Path(data.store.ids[row]).stem) for split in SPLITS for row in data.split_rows(split)[0]}


def test_equal_and_nearly_equal_images_are_left_out(
    fer2013: Path, larger: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build("fer2013", fer2013, tmp_path)
    other.prepare_data()
    with caplog.at_level(logging.INFO):
        data = build("folder", larger, tmp_path, exclude="fer2013")
        data.prepare_data()
    assert served_ids(data) == set(range(10, 20))
    assert data.split_rows("test")[2] == 0
    assert "left out train 4, val 3, test 3 (5 exact, 5 near duplicates)" in caplog.text
    assert "found of fer2013: train 6 of 6, val 3 of 3, test 1 of 3" in caplog.text
    assert (data.store.path / f"matches-{other.fingerprint}.npz").is_file()
    assert data.fingerprint == build("folder", larger, tmp_path).fingerprint
    monkeypatch.setattr("src.data.selection.exclusion.find_matches", lambda *_: pytest.fail("searched again"))
    for exclude in (["fer2013"], other.fingerprint):
        assert served_ids(build("folder", larger, tmp_path, exclude=exclude)) == set(range(10, 20))


def test_several_data_sets(fer2013: Path, larger: Path, tmp_path: Path) -> None:
    build("fer2013", fer2013, tmp_path).prepare_data()
    for i in (10, 13):
        write(tmp_path / "own" / "train" / "happy" / f"{i}.png", encoded(face(20 + i)))
    data = build("folder", tmp_path / "own", tmp_path, split_shares=[1, 0, 0])
    name = data.fingerprint
    both = build("folder", larger, tmp_path, exclude=["fer2013", name])
    assert served_ids(both) == set(range(10, 20)) - {10, 13}


@pytest.mark.parametrize("exclude", ["fer2013", "fer2013-0123456789abcdef", "../x", "rafdb"])
def test_a_store_that_is_not_there(larger: Path, tmp_path: Path, exclude: str) -> None:
    with pytest.raises(ConfigError) as error:
        build("folder", larger, tmp_path, exclude=exclude).prepare_data()
    for part in (f"data.exclude={exclude}", "no store", "python -m src.prepare data="):
        assert part in str(error.value)


def test_several_stores_of_a_name(fer2013: Path, larger: Path, tmp_path: Path) -> None:
    build("fer2013", fer2013, tmp_path).prepare_data()
    (tmp_path / "short.csv").write_text(
        "\n".join(line for i, line in enumerate(fer2013.read_text().splitlines()) if i != 1)
    )
    second = build("fer2013", tmp_path / "short.csv", tmp_path)
    second.prepare_data()
    with pytest.raises(ConfigError, match=f"several stores of it; name one of .*{second.fingerprint}"):
        build("folder", larger, tmp_path, exclude="fer2013").prepare_data()
    assert served_ids(build("folder", larger, tmp_path, exclude=second.fingerprint)) == {0, *range(10, 20)}


def test_a_data_set_does_not_exclude_itself(fer2013: Path, tmp_path: Path) -> None:
    build("fer2013", fer2013, tmp_path).prepare_data()
    with pytest.raises(ConfigError, match="is the data set itself"):
        build("fer2013", fer2013, tmp_path, exclude="fer2013").prepare_data()


def test_nothing_left(fer2013: Path, larger: Path, tmp_path: Path) -> None:
    build("fer2013", fer2013, tmp_path).prepare_data()
    write(tmp_path / "copy" / "train" / "happy" / "0.png", encoded(face(0)))
    options: dict[str, Any] = {"exclude": "fer2013", "split_shares": [1, 0, 0]}
    with pytest.raises(ConfigError, match=r"no train image.*data\.exclude"):
        build("folder", tmp_path / "copy", tmp_path, **options).split_rows("train")
