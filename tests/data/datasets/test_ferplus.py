"""Tests of FER+: its rules, its mistakes, and the real votes where FER2013_PATH and FERPLUS_PATH name the files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from src.data.datamodule import StoreDataModule
from src.data.datasets.ferplus_votes import Mode, decide, read_votes
from src.data.store.packed_store import SPLITS, Record
from src.data.vocabulary import CANONICAL, canonical_name
from src.utils.errors import ConfigError
from tests.data.datasets.test_fer2013 import pixels, text
from tests.helpers.image_files import build, contents

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
USAGES = ("Training", "PublicTest", "PrivateTest")
MODES = get_args(Mode)
real_pixels, real_votes = os.environ.get("FER2013_PATH"), os.environ.get("FERPLUS_PATH")
# Votes in the order of the header; what the modes make of them, as votes by canonical class. None leaves an image out.
VOTES: dict[str, tuple[list[int], dict[str, int] | None, dict[str, int] | None, dict[str, int] | None]] = {
    "unanimous": ([0, 10, 0, 0, 0, 0, 0, 0, 0, 0], {"happy": 10}, {"happy": 10}, {"happy": 10}),
    "single votes do not count": ([6, 1, 1, 1, 1, 0, 0, 0, 0, 0], {"neutral": 6}, {"neutral": 6}, {"neutral": 6}),
    "two classes": ([0, 0, 0, 6, 4, 0, 0, 0, 0, 0], {"sad": 6}, {"sad": 6, "angry": 4}, {"sad": 6, "angry": 4}),
    "a tie has no majority": ([0, 0, 5, 0, 0, 0, 5, 0, 0, 0], None, {"surprise": 5, "fear": 5},
                              {"surprise": 5, "fear": 5}),
    "three quarters are enough": ([0, 0, 0, 0, 8, 2, 0, 0, 0, 0], {"angry": 8}, {"angry": 8}, {"angry": 8}),
    "three classes": ([4, 0, 0, 3, 0, 0, 3, 0, 0, 0], None, {"neutral": 4, "sad": 3, "fear": 3},
                      {"neutral": 4, "sad": 3, "fear": 3}),
    "less than 30 % is not a target": ([5, 0, 0, 3, 0, 0, 2, 0, 0, 0], None, {"neutral": 5, "sad": 3},
                                       {"neutral": 5, "sad": 3}),
    "four classes tie": ([2, 2, 2, 2, 0, 0, 0, 0, 0, 0], None, None, None),
    "unknown by most": ([0, 3, 0, 0, 0, 0, 0, 0, 7, 0], None, None, None),
    "not a face": ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], None, None, None),
    "unknown ends the counting": ([6, 0, 0, 0, 0, 0, 0, 0, 4, 0], {"neutral": 6}, {"neutral": 6}, {"neutral": 6}),
    "half is not enough": ([5, 0, 0, 0, 0, 0, 0, 0, 5, 0], None, None, {"neutral": 5}),
    "nobody agrees": ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None, None, None),
    "contempt": ([0, 0, 0, 0, 0, 0, 0, 9, 0, 0], {"contempt": 9}, {"contempt": 9}, {"contempt": 9}),
}  # fmt: skip


def reference(votes: list[int]) -> dict[str, int] | None:
    """The soft rule again, in words of field.md, image by image."""
    left = {name: n for name, n in zip(HEADER.split(",")[2:], votes, strict=True) if n > 1}
    total, taken = sum(left.values()), {}
    while left and sum(taken.values()) < 0.75 * total:
        tied = [name for name, n in left.items() if n == max(left.values())]
        taken |= {name: left.pop(name) for name in tied}
        if {"unknown", "NF"} & set(tied):
            break
    taken = {canonical_name(name): n for name, n in taken.items() if name not in ("unknown", "NF")}
    return taken if len(taken) <= 3 and sum(taken.values()) > total / 2 else None


def as_votes(counted: Any) -> dict[str, int] | None:
    return None if isinstance(counted, str) else {CANONICAL[i]: int(counted[i]) for i in np.flatnonzero(counted)}


@pytest.mark.parametrize("case", VOTES)
def test_rules(case: str) -> None:
    votes, *expected = VOTES[case]
    for mode, counted in zip(MODES, expected, strict=True):
        assert as_votes(decide(np.array(votes), mode)) == counted, mode


def test_soft_rule_against_a_reference() -> None:
    rng = np.random.default_rng(0)
    for concentration in (0.1, 0.3, 1.0):
        for votes in rng.multinomial(10, rng.dirichlet(np.full(10, concentration), 300)):
            assert as_votes(decide(votes, "soft")) == reference(votes.tolist()), votes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """FER2013's CSV and FER+'s table: every case of VOTES in every split."""
    folder = tmp_path_factory.mktemp("ferplus")
    cases = [(usage, votes) for usage in USAGES for votes, *_ in VOTES.values()]
    images = [f"{i % 7},{text(pixels(i))},{usage}" for i, (usage, _) in enumerate(cases)]
    # The real table has rows without a name.
    votes = [
        f"{usage},{'' if i == 3 else f'fer{i:07}.png'},{','.join(map(str, v))}" for i, (usage, v) in enumerate(cases)
    ]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *images, ""]))
    (folder / "fer2013new.csv").write_text("\n".join([HEADER, *votes, ""]))
    return folder / "fer2013.csv", folder / "fer2013new.csv"


def module(files: tuple[Path, Path], cache: Path, mode: str = "soft", **options: Any) -> StoreDataModule:
    return build("ferplus", files[0], cache, **{"votes_path": str(files[1]), "mode": mode, **options})


@pytest.mark.parametrize("mode", MODES)
def test_images_labels_and_targets(files: tuple[Path, Path], tmp_path: Path, mode: str) -> None:
    data = module(files, tmp_path, mode)
    kept = {i: case[1 + MODES.index(mode)] for i, case in enumerate([*VOTES.values()] * 3)}
    kept = {i: counted for i, counted in kept.items() if counted}
    store = data.store
    assert store.ids.tolist() == [str(i) for i in kept]
    assert data.class_names == CANONICAL
    for row, (i, counted) in enumerate(kept.items()):
        np.testing.assert_array_equal(store.image(row), pixels(i).reshape(48, 48))
        assert SPLITS[store.splits[row]] == SPLITS[i // len(VOTES)]
        assert counted[store.class_names[store.labels[row]]] == max(counted.values())
        if mode == "majority":
            assert store.distribution is None
            continue
        wanted = np.array([counted.get(name, 0) for name in CANONICAL], float)
        wanted = (wanted > 0) if mode == "multi" else wanted
        np.testing.assert_allclose(store.distribution[row], wanted / wanted.sum(), rtol=1e-6)
    left_out = json.loads((store.path / "store.json").read_text())["left_out"]
    assert sum(left_out.values()) == 3 * len(VOTES) - len(kept)
    assert left_out["unknown or not a face by most votes"] == 6
    assert not store.skipped


def test_soft_labels_are_the_arg_max_of_the_targets(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = module(files, tmp_path)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert batch["target"].shape == (len(batch["label"]), 8)
            assert batch["target"].argmax(dim=1).tolist() == batch["label"].tolist()
            torch.testing.assert_close(batch["target"].sum(dim=1), torch.ones(len(batch["label"])))


def test_targets_follow_the_models_classes(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = module(files, tmp_path, class_names=("fear", "sad", "angry", "happy"), merge={"fear": ["surprise"]})
    batch = next(iter(data.test_dataloader()))
    ids = data.store.ids[batch["row"].numpy()].astype(int) % len(VOTES)
    served = {list(VOTES)[i]: target.tolist() for i, target in zip(ids, batch["target"], strict=True)}
    assert served == {
        "unanimous": [0, 0, 0, 1],
        "two classes": pytest.approx([0, 0.6, 0.4, 0]),
        "a tie has no majority": [1, 0, 0, 0],
        "three quarters are enough": [0, 0, 1, 0],
    }


@pytest.mark.parametrize("mode", ["majority", "soft"])
@pytest.mark.parametrize("mixing", [{}, {"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixing(files: tuple[Path, Path], tmp_path: Path, mode: str, mixing: dict[str, float]) -> None:
    data = module(files, tmp_path, mode, transform={"name": "none", **mixing})
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.training, data.trainer = True, trainer
    before = next(iter(data.train_dataloader()))
    torch.manual_seed(1)
    after = data.on_after_batch_transfer(before, 0)
    target = before.get("target", torch.nn.functional.one_hot(before["label"], 8).float())
    if mixing:
        assert after["label"].tolist() == after["target"].argmax(dim=1).tolist()
        fraction = torch.linalg.lstsq(
            torch.stack((target.flatten(), target.roll(1, 0).flatten()), 1), after["target"].flatten()
        ).solution
        torch.testing.assert_close(fraction[0] * target + fraction[1] * target.roll(1, 0), after["target"])
        assert fraction.sum() == pytest.approx(1)
        assert 0 < fraction[0] < 1
    else:
        assert after["label"] is before["label"]
        assert ("target" in after) == (mode == "soft")


def test_every_mode_and_table_has_its_own_store(files: tuple[Path, Path], tmp_path: Path) -> None:
    stores = {module(files, tmp_path, mode).fingerprint for mode in MODES}
    other = tmp_path / "votes.csv"
    other.write_text(files[1].read_text().replace("0,10,0", "0,9,0"))
    stores.add(module((files[0], other), tmp_path).fingerprint)
    assert len(stores) == 4


def _drop_last(content: str) -> str:
    return content[: content.rstrip().rindex("\n") + 1]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: content.replace("contempt", "contentment"), "lacks the columns contempt"),
        (lambda content: "", "lacks the columns Usage"),
        (_drop_last, "has 41 rows, but data.path"),
        (lambda content: content + "Training,x,1,0,0,0,0,0,0,0,0,0\n", "has 43 rows, but data.path"),
        (lambda content: content.replace("Training", "PrivateTest", 1), "row 0 is in the test split, but in the train"),
        (lambda content: content.replace("PublicTest,", "Public,", 1), "row 14 (line 16) is 'Public,fer0000014.png"),
        (lambda content: content.replace("0,10,0", "0,x,0", 1), "row 0 (line 2)"),
        (lambda content: content.replace("0,10,0", "0,-1,0", 1), "row 0 (line 2)"),
        (lambda content: content + "Training,x\n", "row 42 (line 44) is 'Training,x'"),
    ],
)
def test_wrong_votes_are_named(files: tuple[Path, Path], tmp_path: Path, change: Any, found: str) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text(change(files[1].read_text()))
    with pytest.raises(ConfigError) as error:
        module((files[0], votes), tmp_path / "cache").prepare_data()
    for part in (f"data.votes_path={votes}", found, "expected"):
        assert part in str(error.value)
    assert not list((tmp_path / "cache").glob("cache/ferplus-*"))


@pytest.mark.parametrize(
    ("votes", "found"),
    [
        (None, "data.votes_path is not set"),
        ("nowhere.csv", "data.votes_path=nowhere.csv does not exist"),
        (".", "no file"),
    ],
)
def test_missing_votes(files: tuple[Path, Path], tmp_path: Path, votes: str | None, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        build("ferplus", files[0], tmp_path, votes_path=votes).prepare_data()


def test_binary_votes(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(ConfigError, match="cannot be read"):
        module((files[0], tmp_path / "votes.csv"), tmp_path).prepare_data()


def test_folders_have_no_rows(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names do not tell their row"):
        module((tmp_path, files[1]), tmp_path / "cache").prepare_data()


@pytest.mark.skipif(not (real_pixels and real_votes), reason="FER2013_PATH and FERPLUS_PATH are not set")
@pytest.mark.parametrize(
    ("mode", "kept"),
    [("majority", [25_060, 3_199, 3_153]), ("soft", [27_956, 3_505, 3_505]), ("multi", [27_671, 3_472, 3_472])],
)
def test_real_counts_of_the_votes(mode: Any, kept: list[int]) -> None:
    ballots = read_votes(Path(str(real_votes)))
    decided = [ballot.split for ballot in ballots if not isinstance(decide(ballot.votes, mode), str)]
    assert [decided.count(split) for split in SPLITS] == kept


@pytest.mark.skipif(not (real_pixels and real_votes), reason="FER2013_PATH and FERPLUS_PATH are not set")
def test_real_store(tmp_path: Path) -> None:
    data = module((Path(str(real_pixels)), Path(str(real_votes))), tmp_path)
    assert [len(data.store.rows(split)) for split in SPLITS] == [27_956, 3_505, 3_505]
    assert data.store.class_names == CANONICAL
    names = [data.store.class_names.index(name) for name in CANONICAL]
    assert names == list(range(8))
    np.testing.assert_array_equal(data.store.distribution.argmax(axis=1), data.store.labels)


def test_records_are_those_of_fer2013(files: tuple[Path, Path], tmp_path: Path) -> None:
    records, skipped = contents(module(files, tmp_path))
    assert not skipped
    assert all(isinstance(record, Record) and record.image.shape == (48, 48) for record in records.values())
