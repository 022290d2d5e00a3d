"""Tests of the classes that a data set serves: kept, joined, renamed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.cli.validation import validate_config
from src.data.datamodule import StoreDataModule
from src.data.selection.classes import ClassSelection
from src.data.store.packed_store import SPLITS
from src.data.vocabulary import CANONICAL
from src.engine.build import build_data
from src.runs.config import is_plain
from src.utils.errors import ConfigError
from tests.helpers.image_files import build, write
from tests.helpers.running import compose_config

SEVEN = CANONICAL[:7]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven classes; class i has i + 1 images in every split."""
    folder = tmp_path_factory.mktemp("source")
    for split in SPLITS:
        for i, name in enumerate(SEVEN):
            for n in range(i + 1):
                write(folder / split / name / f"{split}-{name}-{n}.png")
    return folder


def served(module: StoreDataModule, split: Any = "test") -> dict[str, int]:
    return dict(zip(module.class_names, module.class_counts(split).tolist(), strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, dict(zip(SEVEN, range(1, 8), strict=True))),
        ({"classes": ["happy", "neutral"]}, {"neutral": 1, "happy": 2}),
        ({"classes": ["Anger", "joy"]}, {"happy": 2, "angry": 7}),
        (
            {"merge": {"angry": ["disgust"]}},
            {"neutral": 1, "happy": 2, "sad": 3, "surprise": 4, "fear": 5, "angry": 13},
        ),
        (
            {"merge": {"angry": ["angry", "disgust"]}, "classes": ["angry", "sad"]},
            {"sad": 3, "angry": 13},
        ),
        ({"merge": {"contempt": ["sad", "fear"]}, "classes": ["contempt", "happy"]}, {"happy": 2, "contempt": 8}),
        (
            {"merge": {"upset": ["sad", "fear"], "alert": ["surprise"]}, "classes": ["alert", "upset", "angry"]},
            {"angry": 7, "upset": 8, "alert": 4},
        ),
        ({"merge": {"happy": ["sad"], "sad": ["happy"]}, "classes": ["happy", "sad"]}, {"happy": 3, "sad": 2}),
    ],
)
def test_classes_served(source: Path, tmp_path: Path, options: dict[str, Any], expected: dict[str, int]) -> None:
    data = build("folder", source, tmp_path, **options)
    for split in SPLITS:
        assert served(data, split) == expected
    assert data.own_classes == tuple(expected)
    assert data.source_classes == SEVEN
    assert data.absent_classes == []
    rows, labels, left_out = data.split_rows("test")
    assert left_out == 28 - sum(expected.values())
    wanted = [data.class_names[label] for label in labels]
    stored = [data.store.class_names[label] for label in data.store.labels[rows]]
    if "merge" not in options:
        assert wanted == stored


def test_the_store_does_not_depend_on_the_choice(source: Path, tmp_path: Path) -> None:
    choices: list[dict[str, Any]] = [{}, {"classes": ["happy"]}, {"merge": {"upset": ["sad", "fear"]}}]
    assert len({build("folder", source, tmp_path, **options).fingerprint for options in choices}) == 1


def test_a_model_with_other_classes(source: Path, tmp_path: Path) -> None:
    model = ("angry", "contempt", "upset", "happy")
    data = build("folder", source, tmp_path, merge={"upset": ["sad", "fear"]}, class_names=model)
    assert served(data) == {"angry": 7, "contempt": 0, "upset": 8, "happy": 2}
    assert data.absent_classes == [1]
    assert data.split_rows("test")[2] == 28 - 17


def test_what_is_left_out_is_said(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        build("folder", source, tmp_path, classes=["happy", "sad"]).prepare_data()
    assert "data.classes: left out 23 test images" in caplog.text


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"classes": ["happy", "bored"]}, ("data.classes=['happy', 'bored']", "no class 'bored'")),
        ({"classes": ["contempt"]}, ("data.classes=['contempt']", "no class 'contempt'")),
        ({"classes": []}, ("data.classes=[]", "expected some of neutral")),
        ({"merge": {"upset": ["sad", "gloomy"]}}, ("data.merge={upset: ['sad', 'gloomy']}", "no class 'gloomy'")),
        ({"merge": {"upset": ["sad"], "low": ["sad"]}}, ("data.merge={low: ['sad']}", "joins upset already")),
        ({"merge": {"not nice": ["sad"]}}, ("'not nice' cannot name a class", "small letters")),
        ({"merge": {"upset": ["sad"]}, "classes": ["sad"]}, ("no class 'sad'", "upset")),
    ],
)
def test_mistakes(source: Path, tmp_path: Path, options: dict[str, Any], found: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        build("folder", source, tmp_path, **options).prepare_data()
    for part in found:
        assert part in str(error.value)


def test_targets_are_joined_and_renormalized() -> None:
    selection = ClassSelection(CANONICAL, ["negative", "happy"], {"negative": ["sad", "fear", "angry"]})
    assert selection.names == ("happy", "negative")
    distribution = np.array([[0.2, 0.2, 0.1, 0, 0.2, 0, 0.3, 0], [1, 0, 0, 0, 0, 0, 0, 0], [np.nan] * 8], np.float32)
    targets = selection.targets(distribution, selection.names)
    np.testing.assert_allclose(targets[0], [0.25, 0.75], rtol=1e-6)
    assert np.isnan(targets[1:]).all()


def test_from_the_command_line(tmp_path: Path, source: Path) -> None:
    cfg = compose_config(
        "train",
        *("data=folder", f"data.path={source}", f"run_dir={tmp_path}", f"data_dir={tmp_path}"),
        *("data.classes=[negative,happy]", "data.merge={negative: [sad, fear]}"),
    )
    data = build_data(cfg, transform={"name": "none"}, image_size=64)
    assert served(data) == {"happy": 2, "negative": 8}


def test_an_evaluation_takes_the_choice_from_the_run() -> None:
    choice = {"merge": {"negative": ["sad", "fear"]}, "parts": [{"name": "folder", "path": "x", "split_seed": 1}]}
    assert is_plain(json.loads(json.dumps(choice)))
    assert not is_plain({"_target_": "os.system"})
    assert not is_plain([{"name": "folder", "transform": {"_target_": "os.system"}}])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.classes=happy", "data.classes=happy"),
        ("data.classes=[]", "data.classes=[]"),
        ("data.merge=[sad,fear]", "data.merge="),
        ("data.merge={upset: sad}", "data.merge="),
        ("data.exclude=3", "data.exclude=3"),
    ],
)
def test_values_of_the_wrong_kind(tmp_path: Path, override: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate_config(compose_config("train", override, f"run_dir={tmp_path}"))
    assert key in str(error.value)
    assert "expected" in str(error.value)
