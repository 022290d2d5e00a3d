"""Tests of the base of all data sets: built by Hydra alone, from any configuration that has `data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from pytorch_lightning import Trainer

from src.data.datamodule import StoreDataModule
from src.engine.build import build_data
from src.utils.groups import CONF
from tests.helpers.running import TINY_DATA, compose_config

NAMES = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "default")
PARTS = {"combined": ["data.parts=[{name: synthetic, n_train: 9}, {name: fer2013, path: here.csv}]"]}


@pytest.mark.parametrize("command", ["train", "eval", "prepare"])
@pytest.mark.parametrize("name", NAMES)
def test_hydra_builds_every_data_set(tmp_path: Path, command: str, name: str) -> None:
    options = [f"data={name}", *PARTS.get(name, []), "data.classes=[happy,sad]", "seed=5", f"data_dir={tmp_path}"]
    options += ["transform=light"] if command == "train" else []
    data = instantiate(compose_config(command, *options, f"run_dir={tmp_path}").data)
    assert isinstance(data, StoreDataModule)
    assert (data.name, data.seed, data.cache_dir) == (name, 5, tmp_path / "cache")
    assert data.transform.name == ("light" if command == "train" else "none")
    assert data.image_size == 64
    assert type(data._kept_classes) is list


def test_what_hydra_builds_serves_what_a_run_does(tmp_path: Path, data_dir: Path) -> None:
    options = [*TINY_DATA, "transform=strong", "seed=3", f"data_dir={data_dir}", f"run_dir={tmp_path}"]
    cfg = compose_config("train", *options)
    batches = [
        next(iter(data.train_dataloader()))
        for data in (instantiate(cfg.data), build_data(cfg, image_size=64), instantiate(cfg.data, seed=4))
    ]
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert not torch.equal(batches[0]["image"], batches[2]["image"])


def test_what_a_model_wants_is_another_data_set(tmp_path: Path, data_dir: Path) -> None:
    data = build_data(compose_config("train", *TINY_DATA, f"data_dir={data_dir}", f"run_dir={tmp_path}"), image_size=64)
    own, labels = data.class_names, data.split_rows("val")[1]
    changed = data.with_classes(own[::-1]).with_grayscale(True)
    assert (changed.class_names, changed.grayscale) == (own[::-1], True)
    assert (len(own) - 1 - changed.split_rows("val")[1]).tolist() == labels.tolist()
    assert (data.class_names, data.grayscale) == (own, False)
    assert data.split_rows("val")[1].tolist() == labels.tolist()


def test_options_given_to_build_data_replace_those_of_the_configuration(tmp_path: Path) -> None:
    """They are not merged into what a key of the configuration links to."""
    cfg = compose_config("train", "transform=strong", f"data_dir={tmp_path}", f"run_dir={tmp_path}")
    assert not build_data(cfg, transform={"name": "mine"}).transform.rotate
    assert cfg.transform.rotate


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_a_mixture_has_the_landmarks_of_its_larger_part(tmp_path: Path, data_dir: Path, mixing: dict[str, Any]) -> None:
    cfg = compose_config("train", *TINY_DATA, f"data_dir={data_dir}", f"run_dir={tmp_path}")
    data = build_data(cfg, transform={"name": "none", **mixing}, image_size=64)
    before = next(iter(data.train_dataloader()))
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.training = True
    own, other = before["landmarks"], before["landmarks"].roll(1, 0)
    label = F.one_hot(before["label"], len(data.class_names)).float()
    pair = int(torch.nonzero(before["label"] != before["label"].roll(1))[0])
    chosen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        after = data.on_after_batch_transfer(before, 0)
        larger = bool((after["target"][pair] * label[pair]).sum() > 0.5)
        chosen.add(larger)
        assert torch.equal(after["landmarks"], own if larger else other)
    assert chosen == {True, False}
