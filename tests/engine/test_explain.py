"""Tests of `src.explain` on a trained run, and of the figure at the end of every run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from src.callbacks.gradcam import GradCamFigure
from src.cli.validation import validate_config
from src.engine.build import build_callbacks, build_data
from src.engine.explain import explain_model
from src.engine.fit import fit_and_test
from src.explanation.images import Predictions, first_of_each_class
from src.utils.errors import ConfigError
from tests.helpers.running import compose_config, tiny_config

QUICK = ["explain.pictures=3", "explain.scored=4", "explain.searched=64"]


def config(run_dir: Path, data_dir: Path, *overrides: str) -> DictConfig:
    run_dir.mkdir(parents=True, exist_ok=True)
    return compose_config("explain", f"run_dir={run_dir}", f"data_dir={data_dir}", *overrides)


def explain(cfg: DictConfig) -> None:
    validate_config(cfg)
    explain_model(cfg)


@pytest.fixture(scope="module")
def explanation(
    tmp_path_factory: pytest.TempPathFactory, brief_run: Path, data_dir: Path
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("explained")
    explain_model(config(folder, data_dir, f"ckpt_path={brief_run}", "explain.against=[happy,sad]", *QUICK))
    return folder, json.loads((folder / "explanation.json").read_text())


def test_every_panel_is_drawn(explanation: tuple[Path, dict[str, Any]]) -> None:
    folder, result = explanation
    assert set(result["panels"]) == {"correct", "incorrect", "confused", "against", "valence_arousal"}
    for name, ids in result["panels"].items():
        assert 1 <= len(ids) <= 3
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200
    assert (result["split"], result["method"], result["layer"], result["layer_side"]) == ("val", "gradcam", "fused", 16)
    assert result["against"] == ["happy", "sad"]
    assert result["data"].startswith("synthetic-")


def test_every_method_is_scored(explanation: tuple[Path, dict[str, Any]]) -> None:
    scores = explanation[1]["scores"]
    assert set(scores) == {"gradcam", "hirescam", "eigencam", "occlusion", "integrated_gradients", "random"}
    for values in scores.values():
        assert set(values) == {"insertion", "deletion", "gain", "gain_over_random"}
        for value in values.values():
            assert value["ci95"][0] <= value["mean"] <= value["ci95"][1]


def test_the_parts_of_the_face_are_measured(explanation: tuple[Path, dict[str, Any]]) -> None:
    """By the landmarks of the data, as this model has none."""
    folder, result = explanation
    assert result["regions"]["all"]["mouth"]["n"] == result["searched"]
    for entry in result["regions"].values():
        assert sum(region["mean"] for region in entry.values()) == pytest.approx(1, abs=1e-5)
    assert (folder / "figures" / "regions.png").stat().st_size > 5_000


def test_weights_alone_are_explained(tmp_path: Path, brief_run: Path, data_dir: Path) -> None:
    data = ["data=synthetic", "data.n_train=26", "data.n_val=14", "data.n_test=21"]
    weights = brief_run / "checkpoints" / "best.safetensors"
    chosen = [
        "explain.method=hirescam",
        "explain.layer=backbone.conv4",
        "explain.compare=[gradcam]",
        "explain.scored=0",
        "explain.regions=0",
    ]
    explain_model(config(tmp_path, data_dir, f"ckpt_path={weights}", "explain.split=test", *data, *chosen))
    result = json.loads((tmp_path / "explanation.json").read_text())
    assert (result["split"], result["method"], result["layer"]) == ("test", "hirescam", "backbone.conv4")
    assert result["scores"] == {}
    assert result["regions"] == {}
    assert result["searched"] == 21


MISTAKES = {
    "no model": ([], "there is no model"),
    "no file": (["ckpt_path=nowhere"], "ckpt_path=nowhere does not exist"),
    "method": (["explain.method=lime"], "explain.method=lime; expected one of auto"),
    "compared": (["explain.compare=[lime]"], "names lime; expected some of gradcam"),
    "attention": (["explain.method=attention"], "the head linear attends to nothing"),
    "layer": (["explain.layer=conv99"], "explain.layer=conv99"),
    "classes": (["explain.against=[happy,joy]"], "explain.against=.*expected two of neutral, happy"),
    "same class": (["explain.against=[sad,sad]"], "explain.against=.*expected two of neutral, happy"),
    "one class": (["explain.against=[happy]"], "explain.against=.*two classes"),
    "split": (["explain.split=train"], "explain.split=train"),
    "pictures": (["explain.pictures=0"], "explain.pictures=0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path: Path, brief_run: Path, data_dir: Path, mistake: str) -> None:
    overrides, message = MISTAKES[mistake]
    if mistake not in ("no model", "no file"):
        overrides = [f"ckpt_path={brief_run}", *overrides]
    with pytest.raises(ConfigError, match=message):
        explain(config(tmp_path, data_dir, *overrides))


def predictions(labels: list[int], classes: list[int]) -> Predictions:
    probabilities = torch.nn.functional.one_hot(torch.tensor(classes), 3).float()
    return Predictions(("a", "b", "c"), torch.arange(10, 10 + len(labels)), torch.tensor(labels), probabilities)


def test_images_are_taken_in_turn_of_their_labels() -> None:
    found = predictions([0, 0, 0, 1, 2, 2], [0, 0, 0, 1, 2, 1])
    right = found.classes == found.labels
    assert found.select(right, 3) == [10, 13, 14]
    assert found.select(right, 4) == [10, 11, 13, 14]
    assert found.select(right, 9) == [10, 11, 12, 13, 14]
    assert found.select(~right, 9) == [15]


def test_most_confused_pair() -> None:
    assert predictions([0, 1, 2], [0, 1, 2]).most_confused_pair() is None
    assert predictions([0, 1, 2, 2, 1], [1, 2, 1, 1, 1]).most_confused_pair() == (2, 1)
    assert predictions([0, 0, 1, 2], [1, 1, 0, 0]).most_confused_pair() == (0, 1)


def test_the_figure_of_a_run_can_be_left_out(tmp_path: Path, data_dir: Path) -> None:
    for options, expected in ([], True), (["~callbacks.gradcam"], False):
        callbacks = build_callbacks(tiny_config(tmp_path, data_dir, *options, figures=True))
        assert any(isinstance(callback, GradCamFigure) for callback in callbacks) == expected


def test_the_figure_of_a_run_shows_fixed_images(tmp_path: Path, data_dir: Path) -> None:
    data = build_data(tiny_config(tmp_path, data_dir), transform=None, image_size=64)
    indices = first_of_each_class(data, "val")
    labels = data.split_rows("val")[1].tolist()
    assert [labels.index(label) for label in sorted(set(labels))] == indices


def test_a_run_without_the_extra_only_lacks_the_figure(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("src.utils.extras.find_spec", lambda name: None)
    small = ["data.n_train=8", "data.n_val=7", "data.n_test=7", "trainer.max_epochs=1"]
    with caplog.at_level(logging.WARNING):
        results = fit_and_test(tiny_config(tmp_path, data_dir, *small, figures=True))
    assert "test/accuracy" in results
    assert not (tmp_path / "figures" / "gradcam.png").exists()
    assert "pip install -e '.[explain]'" in caplog.text
    assert "~callbacks.gradcam" in caplog.text
