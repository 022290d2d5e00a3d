"""Tests of the audit: every number counted by hand, and the known ones of the real FER2013."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console, RenderableType

from src.data.audit.audit import EXAMPLES, Audit, audit
from src.data.audit.report import AUDIT, SHEET, audit_table, contact_sheet, open_audit
from src.data.datamodule import StoreDataModule
from src.data.faces.generator import draw_face
from src.data.store.packed_store import PackedStore, Record, Skipped, Split
from src.data.store.store_writer import write_store
from src.utils.errors import ConfigError
from tests.conftest import MakeStore

Image = NDArray[np.uint8]


def _face(index: int) -> Image:
    return draw_face(31, index, 48, grayscale=True).image[..., 0]


def _brighter(image: Image) -> Image:
    return np.minimum(image, 240) + np.uint8(12)


def _planted() -> list[Record | Skipped]:
    """A store with duplicates, conflicts, blanks, near duplicates, several sizes, and a broken file.

    Faces 0 to 3 are in several splits, 4 to 9 are clean.
    """
    rows: list[tuple[str, Split, str, Image]] = [
        ("a0", "train", "happy", _face(0)),
        ("a1", "train", "sad", _face(0)),
        ("a2", "val", "happy", _face(0)),
        ("b0", "train", "fear", _face(1)),
        ("b1", "test", "fear", _face(1)),
        ("b2", "test", "fear", _face(1)),
        ("c0", "val", "angry", _face(2)),
        ("c1", "test", "angry", _face(2)),
        ("d0", "train", "sad", _face(3)),
        ("d1", "test", "sad", _brighter(_face(3))),
        ("d2", "test", "sad", _brighter(_face(3))),
        ("n0", "train", "happy", np.zeros((48, 48), np.uint8)),
        ("n1", "val", "happy", np.full((48, 48, 3), (9, 8, 7), np.uint8)),
        ("n2", "val", "sad", np.zeros((48, 48), np.uint8)),
        *((f"e{i}", "train", "happy", _face(i)) for i in range(4, 8)),
        ("e8", "val", "fear", draw_face(31, 8, 64).image),
        ("e9", "test", "angry", np.ascontiguousarray(draw_face(31, 9, 96).image[:, :80])),
    ]
    records = [Record(*row) for row in rows]
    return [*records, Skipped("broken [1].jpg", "the file is cut off")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PackedStore:
    return write_store(tmp_path_factory.mktemp("planted") / "store", _planted(), max_bad=0.1)


@pytest.fixture(scope="module")
def result(store: PackedStore) -> Audit:
    return audit(store, ("neutral", "happy", "sad", "fear", "angry"))


def _printed(table: RenderableType) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_counts_include_empty_classes(result: Audit) -> None:
    assert result.images == 20
    assert result.counts["train"] == {"neutral": 0, "happy": 6, "sad": 2, "fear": 1, "angry": 0}
    assert result.counts["val"] == {"neutral": 0, "happy": 2, "sad": 1, "fear": 1, "angry": 1}
    assert result.counts["test"] == {"neutral": 0, "happy": 0, "sad": 2, "fear": 2, "angry": 2}


def test_sizes_and_modes(result: Audit) -> None:
    assert result.sizes == {"48x48": 18, "64x64": 1, "80x96": 1}
    assert result.modes == {"gray": 17, "rgb": 3}


def test_blank_images(result: Audit) -> None:
    assert result.blank == ["n0", "n1", "n2"]


def test_exact_duplicates(result: Audit) -> None:
    assert result.exact_groups == 5  # a, b, c, the bright d, the black n
    assert result.extra_duplicates == 7
    assert result.exact_duplicates == {
        "train": {"train": 2, "val": 3, "test": 1},
        "val": {"train": 2, "val": 0, "test": 1},
        "test": {"train": 2, "val": 1, "test": 4},
    }


def test_conflicts(result: Audit) -> None:
    groups = {tuple(group["ids"]): group for group in result.conflicts}
    assert set(groups) == {("a0", "a1", "a2"), ("n0", "n2")}
    assert groups["a0", "a1", "a2"]["labels"] == ["happy", "sad", "happy"]
    assert groups["n0", "n2"]["splits"] == ["train", "val"]


def test_what_deduplication_leaves(result: Audit) -> None:
    assert result.training_after_dedup == 5  # d0, e4 to e7
    assert result.clean_test == 2  # d1, e9


def test_near_duplicates(result: Audit) -> None:
    assert result.near_pairs == 1
    assert {name: n for name, n in result.near_pairs_between.items() if n} == {"train-test": 1}
    assert result.near_duplicates["test"] == {"train": 2, "val": 0, "test": 0}
    assert result.near_duplicates["train"] == {"train": 0, "val": 0, "test": 1}
    (pair,) = result.near_examples["train-test"]
    assert pair["ids"] == ["d0", "d1"]
    assert pair["splits"] == ["train", "test"]
    assert pair["labels"] == ["sad", "sad"]
    assert 0.98 <= pair["correlation"] <= 1


def test_examples_name_the_duplicate_in_the_split(make_store: MakeStore) -> None:
    """A pair counts between all splits that duplicates of its images are in, and its examples are from these."""
    face, bright = _face(0), _brighter(_face(0))
    placed: list[tuple[str, Split, Image]] = [
        ("v", "val", face),
        ("t", "test", bright),
        ("u", "train", bright),
        ("w", "train", face),
        ("x", "train", face),
    ]
    found = audit(make_store([Record(name, split, "happy", image) for name, split, image in placed]))
    assert found.near_pairs == 1
    examples = {name: [tuple(pair["ids"]) for pair in pairs] for name, pairs in found.near_examples.items() if pairs}
    assert examples == {
        "train-train": [("w", "u")],
        "train-val": [("u", "v")],
        "train-test": [("w", "t")],
        "val-test": [("v", "t")],
    }
    assert found.near_duplicates["train"] == {"train": 3, "val": 1, "test": 2}


def test_skipped_files_and_their_reasons(result: Audit) -> None:
    assert result.skipped == [{"id": "broken [1].jpg", "reason": "the file is cut off"}]


def test_many_sizes_are_summed_up(make_store: MakeStore) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + i // 2, 30), np.uint8) for i in range(30)]
    sizes = audit(make_store([Record(str(i), "train", "happy", image) for i, image in enumerate(images)])).sizes
    assert len(sizes) == 11
    assert sizes["30x20"] == 2
    assert sizes["other"] == 10


def test_many_near_duplicates_are_listed_in_part(make_store: MakeStore) -> None:
    images = [np.minimum(_face(0), 200) + np.uint8(i) for i in range(8)]
    found = audit(make_store([Record(str(i), "train", "happy", image) for i, image in enumerate(images)]))
    assert found.near_pairs == 28
    assert len(found.near_examples["train-train"]) == EXAMPLES


def test_json_gives_the_same_audit_back(result: Audit) -> None:
    assert Audit.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_table_says_it_all(result: Audit) -> None:
    text = _printed(audit_table(result))
    for part in ("broken [1].jpg: the file is cut off", "a0 happy = a1 sad = a2 happy", "n0, n1, n2", "train-test 1"):
        assert part in text
    assert "7 extra duplicates" in text


def test_contact_sheet_has_a_band_for_each_class(store: PackedStore, tmp_path: Path) -> None:
    contact_sheet(store, tmp_path / "one.png")
    contact_sheet(store, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "one.png")), cv2.COLOR_BGR2RGB)
    assert sheet.shape == (4 * 100, 170 + 12 * 100, 3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.png", "two.png"]
    # Red, green and blue in the right order, and the image at its place.
    happy = [int(row) for row in np.flatnonzero(store.labels == 0)]
    column = happy.index(list(store.ids).index("n1"))
    tile = sheet[10:90, 170 + column * 100 + 10 : 170 + column * 100 + 80]
    assert (tile == (9, 8, 7)).all()


def test_audit_is_made_once(store: PackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_audit(store)
    assert json.loads((store.path / AUDIT).read_text()) == first.to_dict()
    assert (store.path / SHEET).exists()
    monkeypatch.setattr("src.data.audit.report.audit", lambda *_: pytest.fail("made again"))
    assert open_audit(store) == first


def test_broken_or_outdated_audit_is_made_again(make_store: MakeStore) -> None:
    store = make_store([Record("0", "train", "happy", _face(0))])
    for content in ("{", '{"format": 0}'):
        (store.path / AUDIT).write_text(content)
        assert open_audit(store).images == 1
        assert json.loads((store.path / AUDIT).read_text())["pictures"] == 1


def test_store_that_cannot_be_written(make_store: MakeStore) -> None:
    store = make_store([Record("0", "train", "happy", _face(0))])
    (store.path / SHEET).mkdir()
    with pytest.raises(ConfigError, match=r"cannot write the audit into .*set data_dir"):
        open_audit(store)
    assert not (store.path / AUDIT).exists()


def test_known_numbers_of_fer2013(fer2013: StoreDataModule) -> None:
    found = audit(fer2013.store)
    assert found.images == 35_887
    assert {split: sum(found.counts[split].values()) for split in found.counts} == {
        "train": 28_709,
        "val": 3_589,
        "test": 3_589,
    }
    assert (found.exact_groups, found.extra_duplicates, len(found.conflicts)) == (1_518, 1_853, 52)
    assert (found.exact_duplicates["val"]["train"], found.exact_duplicates["test"]["train"]) == (283, 289)
    assert len(found.blank) == 10
    assert (found.training_after_dedup, found.clean_test) == (26_942, 3_267)
    # As a comparison of all pairs' pixels finds them, without a hash: the shortlist loses none.
    assert found.near_pairs == 278
    assert found.near_pairs_between == {
        "train-train": 187,
        "train-val": 45,
        "train-test": 78,
        "val-val": 2,
        "val-test": 9,
        "test-test": 4,
    }
