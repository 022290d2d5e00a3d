"""Tests of FER2013: Kaggle's format, its mistakes, and the real file where FER2013_PATH names it."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.data.datamodule import StoreDataModule
from src.data.datasets.fer2013 import Fer2013DataModule
from src.data.selection.exact_duplicates import training_rows
from src.utils.errors import ConfigError
from tests.helpers.image_files import build

# Kaggle's label ids are the positions in this list.
KAGGLE = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CANONICAL = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
PIXELS = 48 * 48


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, PIXELS)


def text(values: np.ndarray | list[int]) -> str:
    return " ".join(map(str, values))


def table(header: str = "emotion,pixels,Usage", separator: str = ",") -> str:
    """Return a CSV of Kaggle's format: each label once a split."""
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [(label, text(pixels(7 * s + label)), usage) for s, usage in enumerate(usages) for label in range(7)]
    return "\n".join([header, *(separator.join(map(str, row)) for row in rows), ""])


def data_module(path: Path | str | None, data_dir: Path) -> Fer2013DataModule:
    return Fer2013DataModule(
        name="fer2013",
        path=None if path is None else str(path),
        data_dir=str(data_dir),
        image_size=64,
        transform={"name": "none"},
        seed=0,
    )


def write_plain(folder: Path, content: str) -> Path:
    path = folder / "fer2013.csv"
    path.write_text(content)
    return path


def write_tar(folder: Path, content: str) -> Path:
    path = folder / "fer2013.tar.gz"
    readme = folder / "README"
    readme.write_text("not a table")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(readme, "fer2013/README")
        archive.add(write_plain(folder, content), "fer2013/fer2013.csv")
    return path


def write_zip(folder: Path, content: str) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README", "not a table")
        archive.writestr("fer2013.csv", content)
    return path


WRITERS = [write_plain, write_tar, write_zip]


@pytest.mark.parametrize("write", WRITERS)
def test_every_container_gives_the_same_images(tmp_path: Path, write: Callable[[Path, str], Path]) -> None:
    store = data_module(write(tmp_path, table()), tmp_path / "data").store
    assert store.ids.tolist() == [str(i) for i in range(21)]
    assert store.class_names == CANONICAL
    assert store.is_gray
    for split, usage in enumerate(("train", "val", "test")):
        rows = store.rows(usage)
        assert rows.tolist() == list(range(7 * split, 7 * split + 7))
        assert [store.class_names[label] for label in store.labels[rows]] == list(KAGGLE)
    for row in range(21):
        np.testing.assert_array_equal(store.image(row), pixels(row).reshape(48, 48))


@pytest.mark.parametrize(
    ("header", "separator"),
    [("emotion, pixels, Usage", ","), ("emotion, pixels, Usage", ", "), (" emotion ,pixels,Usage ", ",")],
)
def test_blanks_before_names_and_values(tmp_path: Path, header: str, separator: str) -> None:
    store = data_module(write_plain(tmp_path, table(header, separator)), tmp_path / "data").store
    assert len(store) == 21
    np.testing.assert_array_equal(store.image(20), pixels(20).reshape(48, 48))


def write_competition(folder: Path, content: str) -> Path:
    """Write the zip of Kaggle's competition: the whole table beside parts of it, and what a Mac adds."""
    path = folder / "challenges-in-representation-learning-facial-expression-recognition-challenge.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._icml_face_data.csv", b"\0\5\26\7")
        archive.writestr("._fer2013.csv", b"\0\5\26\7")
        archive.writestr("example_submission.csv", "Id,Prediction\n1,0\n")
        archive.writestr("icml_face_data.csv", content.replace("pixels,Usage", " pixels, Usage"))
        archive.writestr("test.csv", "pixels\n0 0 0\n")
        archive.writestr("train.csv", "emotion,pixels\n0,0 0 0\n")
    return path


def write_competition_folder(folder: Path, content: str) -> Path:
    with zipfile.ZipFile(write_competition(folder, content)) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def write_loud(folder: Path, content: str) -> Path:
    """Write what spreadsheets and Windows make of it: a capital name, a byte-order mark, CRLF and empty lines."""
    path = folder / "FER2013.CSV"
    path.write_bytes(
        b"\xef\xbb\xbf" + content.replace("\n", "\r\n").replace("Usage\r\n", "Usage\r\n\r\n,,\r\n").encode()
    )
    return path


def write_loud_zip(folder: Path, content: str) -> Path:
    with zipfile.ZipFile(folder / "fer2013.zip", "w") as archive:
        archive.write(write_loud(folder, content), "FER2013/FER2013.CSV")
    return folder / "fer2013.zip"


@pytest.mark.parametrize("write", [write_competition, write_competition_folder, write_loud, write_loud_zip])
def test_every_form_that_people_have_gives_the_same_images(tmp_path: Path, write: Callable[[Path, str], Path]) -> None:
    expected = data_module(write_plain(tmp_path, table()), tmp_path / "plain").store
    found = data_module(write(tmp_path, table()), tmp_path / "other").store
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.digests.tolist() == expected.digests.tolist()
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.splits.tolist() == expected.splits.tolist()


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = write_plain(tmp_path, f"Usage,id,pixels,emotion\nPrivateTest,x,{text(pixels(0))},3\n")
    (record,) = data_module(path, tmp_path).records()
    assert (record.id, record.split, record.label) == ("0", "test", "happy")


def test_ck_plus_has_the_same_layout_and_contempt(tmp_path: Path) -> None:
    path = tmp_path / "ckextended.csv"
    rows = [f"{label},{text(pixels(label))},{usage}" for label in range(8) for usage in ("Training", "PublicTest")]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]))
    store = build("ckplus", path, tmp_path / "cache").store
    labels = [store.class_names[i] for i in store.labels]
    assert labels[::2] == [*KAGGLE, "contempt"]
    with pytest.raises(ConfigError, match="the label '7'; expected a number from 0 to 6"):
        list(data_module(path, tmp_path / "cache").records())


def test_labels_are_served_in_canonical_order(tmp_path: Path) -> None:
    data = data_module(write_plain(tmp_path, table()), tmp_path / "data")
    _, labels, n_unmapped = data.split_rows("train")
    assert data.class_names == CANONICAL
    assert [CANONICAL[label] for label in labels] == list(KAGGLE)
    assert n_unmapped == 0


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("row", "found"),
    [
        (f"0,{text(range(10))},Training", "10 pixels; expected 2304"),
        (f"0,{text([0] * (PIXELS + 1))},Training", "2305 pixels; expected 2304"),
        (f"0,{text([0] * (PIXELS - 1))} 256,Training", "the pixel value 256; expected values from 0 to 255"),
        (f"0,{text([0] * (PIXELS - 1))} -1,Training", "pixels that are not numbers"),
        (f"0,{text([0] * (PIXELS - 1))} x,Training", "pixels that are not numbers"),
        (f"0,{text([0] * (PIXELS - 1))} 0.5,Training", "pixels that are not numbers"),
        ("0,,Training", "0 pixels; expected 2304"),
        (f"7,{text([0] * PIXELS)},Training", "the label '7'; expected a number from 0 to 6"),
        (f"-1,{text([0] * PIXELS)},Training", "the label '-1'; expected a number from 0 to 6"),
        (f"happy,{text([0] * PIXELS)},Training", "the label 'happy'; expected a number from 0 to 6"),
        (f",{text([0] * PIXELS)},Training", "the label ''; expected a number from 0 to 6"),
        (f"0,{text([0] * PIXELS)},Test", "Usage 'Test'; expected Training or PublicTest or PrivateTest"),
        (f"0,{text([0] * PIXELS)}", "2 fields; expected 3"),
        (f"0,{text([0] * PIXELS)},Training,more", "4 fields; expected 3"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, write: Callable[[Path, str], Path], row: str, found: str) -> None:
    path = write(tmp_path, f"{table()}{row}\n")
    with pytest.raises(ConfigError) as error:
        data_module(path, tmp_path / "data").prepare_data()
    for part in (f"data.path={path}", "row 21 (line 23)", found):
        assert part in str(error.value)
    assert not list((tmp_path / "data" / "cache").glob("fer2013-*"))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("content", ["", "a,b,c\n1,2,3\n", "emotion,pixels\n", "just text"])
def test_other_tables_are_refused(tmp_path: Path, write: Callable[[Path, str], Path], content: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        data_module(path, tmp_path / "data").prepare_data()
    for part in (f"data.path={path} has the columns", "columns emotion,pixels,Usage"):
        assert part in str(error.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = write_plain(tmp_path, "emotion,pixels,Usage\n")
    with pytest.raises(ConfigError, match="no readable image"):
        data_module(path, tmp_path / "data").prepare_data()


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.csv"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(ConfigError, match=r"photo\.csv.*expected Kaggle's fer2013\.csv"):
        data_module(path, tmp_path / "data").prepare_data()


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_truncated_archives_are_refused(tmp_path: Path, write: Callable[[Path, str], Path], fraction: float) -> None:
    path = write(tmp_path, table())
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ConfigError, match=r"data\.path=.*expected Kaggle's fer2013\.csv"):
        data_module(path, tmp_path / "data").prepare_data()
    assert not list((tmp_path / "data" / "cache").glob("fer2013-*"))


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_damaged_archives_are_refused(tmp_path: Path, write: Callable[[Path, str], Path]) -> None:
    path = write(tmp_path, table())
    content = path.read_bytes()
    middle = len(content) // 2
    for start in range(middle, middle + 400, 20):
        path.write_bytes(content[:start] + b"\xff" * 40 + content[start + 40 :])
        with pytest.raises(ConfigError, match=r"data\.path="):
            data_module(path, tmp_path / "data").prepare_data()


def test_archives_without_a_table_are_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README"
    readme.touch()
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(readme, "README")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as bundle:
        bundle.write(readme, "README")
    for name in ("other.tar.gz", "other.zip"):
        with pytest.raises(ConfigError, match=rf"{name} holds no \.csv file; expected Kaggle's"):
            data_module(tmp_path / name, tmp_path / "data").prepare_data()


def test_missing_source(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.csv"
    with pytest.raises(ConfigError) as error:
        data_module(path, tmp_path).prepare_data()
    for part in (f"data.path={path} does not exist", "data=fer2013 expects Kaggle's fer2013.csv"):
        assert part in str(error.value)


def test_source_not_set(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"data\.path is not set, and nothing lies in .*raw.fer2013; data=fer2013 expects Kaggle's fer2013\.csv",
    ):
        data_module(None, tmp_path).prepare_data()


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(ConfigError, match=r"data\.path=.*source.*expected Kaggle's"):
        data_module(tmp_path / "source", tmp_path).prepare_data()


def test_the_store_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plain(tmp_path, table())
    first = data_module(path, tmp_path / "data").store
    monkeypatch.setattr(Fer2013DataModule, "records", lambda self: pytest.fail("parsed again"))
    assert data_module(path, tmp_path / "data").store.path == first.path


def test_real_splits(fer2013: StoreDataModule) -> None:
    store = fer2013.store
    assert [len(store.rows(split)) for split in ("train", "val", "test")] == [28_709, 3_589, 3_589]
    assert store.ids.tolist() == [str(i) for i in range(35_887)]
    assert not store.skipped


def test_real_test_classes(fer2013: StoreDataModule) -> None:
    counts = dict(zip(fer2013.class_names, fer2013.class_counts("test").tolist(), strict=True))
    assert counts == dict(zip(KAGGLE, (491, 55, 528, 879, 594, 416, 626), strict=True))


def test_real_duplicates(fer2013: StoreDataModule) -> None:
    assert len(training_rows(fer2013.store)) == 26_942
    assert len(fer2013.split_rows("train")[0]) == 26_942
    assert len(fer2013.clean_rows("test")) == 3_267


@pytest.mark.parametrize("name", ["fer2013", "mmafedb", "csv"])
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is neither a file nor a folder"):
            build(name, path, tmp_path / "cache").store  # noqa: B018
