"""Whoever trains, resumes, releases or exports weights keeps the terms of those that they started or learned from."""

import hashlib
import json
import logging
import shutil

import onnx
import onnxruntime as ort
import pytest
import torch

from src.engine.evaluate import evaluate as run_evaluation
from src.engine.fit import fit_and_test
from src.engine.release import release
from src.exporting.deployed import DeployedModel
from src.exporting.onnx_files import save
from src.models import origin
from src.models.emonet import EmoNet
from src.models.origin import DATA_TERMS, NO_DERIVATIVES, RESEARCH
from src.models.weights import build_from_weights, load_weights
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.running import NO_FIGURES, TINY_DATA, compose_config, tiny_config

CLASSES = "[neutral,happy,sad,surprise,fear,disgust,angry,contempt]"
SHORT = ["test=false", "trainer.max_epochs=1", "trainer.precision=32-true"]
CREATIVE_COMMONS = "CC BY-NC-ND 4.0"


@pytest.fixture(scope="module", autouse=True)
def official(tmp_path_factory):
    """A small EmoNet in the authors' format, known as a published file, under another name than theirs."""
    path = tmp_path_factory.mktemp("official") / "renamed.pth"
    torch.save(EmoNet(8, width=16, n_hourglass=1).state_dict(), path)
    content = path.read_bytes()
    blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(origin.OFFICIAL_FILES, blob_id, "emonet_8.pth")
        yield path


def train(folder, data_dir, *options):
    fit_and_test(tiny_config(folder, data_dir, *SHORT, *options))
    return folder


def from_official(path):
    return [f"backbone.weights={path}", f"backbone.class_names={CLASSES}"]


@pytest.fixture(scope="module")
def tuned(official, tmp_path_factory, data_dir):
    """A run that starts from official weights, under the name of a backbone of ours."""
    return train(tmp_path_factory.mktemp("tuned"), data_dir, *from_official(official))


@pytest.fixture(scope="module")
def chain(tuned, tmp_path_factory, data_dir):
    """A run that starts from a run that starts from `tuned`."""
    again = train(tmp_path_factory.mktemp("again"), data_dir, f"backbone.weights={tuned}")
    safetensors = again / "checkpoints" / "best.safetensors"
    return train(tmp_path_factory.mktemp("chain"), data_dir, f"backbone.weights={safetensors}", "seed=1")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory, data_dir):
    """A run that starts from nothing."""
    return train(tmp_path_factory.mktemp("scratch"), data_dir)


@pytest.fixture(scope="module")
def released(chain, tmp_path_factory, data_dir):
    """The weights of `chain` and their card, in a folder."""
    folder = tmp_path_factory.mktemp("released")
    run_dir = folder / "eval"
    run_dir.mkdir()
    common = ["name=own", f"folder={folder}", f"run_dir={folder}"]
    release(compose_config("release", *common, f"ckpt_path={chain}"))
    options = ["data=synthetic", *TINY_DATA, "trainer=cpu", "trainer.enable_progress_bar=false", *NO_FIGURES]
    weights = f"ckpt_path={folder / 'own.safetensors'}"
    run_evaluation(compose_config("eval", *options, weights, f"run_dir={run_dir}", f"data_dir={data_dir}"))
    release(compose_config("release", *common, f"runs={run_dir}"))
    return folder


def spec_of(run_dir, name="best.ckpt"):
    return load_weights(run_dir / "checkpoints" / name).spec


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt", "best.safetensors"])
def test_a_run_keeps_the_terms_of_official_weights(tuned, official, name):
    spec = spec_of(tuned, name)
    (ancestor,) = spec.origin.ancestors
    assert spec.license == NO_DERIVATIVES
    assert ancestor.name == "emonet_8.pth of EmoNet's authors"
    assert origin.OFFICIAL_FILES[ancestor.blob_id] == "emonet_8.pth"
    assert spec.backbone["name"] == "emonet_tiny", "its name tells nothing"


def test_a_run_from_scratch_has_the_terms_of_its_data(scratch):
    spec = spec_of(scratch)
    assert (spec.license, spec.origin.ancestors) == (DATA_TERMS, ())
    assert spec.trained_on in spec.terms
    assert "Started from" not in spec.terms


def test_fine_tuning_adds_to_the_chain(chain, tuned):
    spec = spec_of(chain)
    assert spec.license == NO_DERIVATIVES
    names = ["best.safetensors", "best.ckpt", "emonet_8.pth of EmoNet's authors"]
    assert [ancestor.name for ancestor in spec.origin.ancestors] == names
    assert spec.origin.ancestors[-1] == spec_of(tuned).origin.ancestors[0]


def test_fine_tuned_shipped_weights_are_for_research(tmp_path, data_dir):
    shipped = ROOT / "pretrained" / "emonet_fer_small.safetensors"
    train(tmp_path, data_dir, "backbone=emonet_fer_small", "cache=false")
    spec = spec_of(tmp_path)
    assert spec.license == RESEARCH
    assert spec.origin.ancestors[0].name == shipped.name
    assert spec.origin.ancestors[0].trained_on == load_weights(shipped).spec.trained_on
    assert spec.terms.startswith("Research use")


def test_a_student_has_the_terms_of_its_teacher_and_names_it(tuned, tmp_path, data_dir):
    teacher = load_weights(tuned / "checkpoints" / "best.ckpt").as_ancestor()
    taught = ["callbacks=distillation", f"callbacks.distillation.teacher={tuned}", "head=emonet"]
    run_dir = train(tmp_path / "student", data_dir, *taught)
    resumed = ["test=false", "trainer.precision=32-true", "ckpt_path=last", *taught]
    for name in ("last.ckpt", "best.ckpt", "best.safetensors"):
        assert spec_of(run_dir, name).origin == origin.Origin(NO_DERIVATIVES, (), (teacher,))
    fit_and_test(tiny_config(run_dir, data_dir, *resumed))
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert spec_of(run_dir, "last.ckpt").origin == origin.Origin(NO_DERIVATIVES, (), (teacher,))


def test_resuming_keeps_the_terms_whatever_the_option_says(tuned, tmp_path, data_dir):
    """The weights that go on are those of the checkpoint: `backbone.weights` left out changes nothing."""
    run_dir = tmp_path / "resumed"
    shutil.copytree(tuned, run_dir)
    fit_and_test(tiny_config(run_dir, data_dir, "test=false", "trainer.precision=32-true", "ckpt_path=last"))
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert spec_of(run_dir, "last.ckpt").origin == spec_of(tuned).origin


def test_resuming_an_older_run_takes_what_is_known_of_it(tuned, official, tmp_path, data_dir):
    """Checkpoints without an origin: `backbone.weights` tells it; without that, it is not taken for nothing."""
    common = ["test=false", "trainer.precision=32-true", "ckpt_path=last"]
    for name, options, expected in (("told", from_official(official), NO_DERIVATIVES), ("untold", [], RESEARCH)):
        run_dir = tmp_path / name
        shutil.copytree(tuned, run_dir)
        path = run_dir / "checkpoints" / "last.ckpt"
        content = torch.load(path, weights_only=True)
        del content["model_spec"]["origin"]
        torch.save(content, path)
        fit_and_test(tiny_config(run_dir, data_dir, *common, *options))
        assert spec_of(run_dir, "last.ckpt").license == expected


def test_released_weights_and_their_card_say_it(released, chain):
    spec = load_weights(released / "own.safetensors").spec
    assert spec.origin == spec_of(chain).origin
    card = (released / "own.md").read_text()
    assert f"\n## Licence\n\n{spec.terms}\n" in card
    assert CREATIVE_COMMONS in spec.terms
    assert "emonet_8.pth of EmoNet's authors (git blob id " in spec.terms


def test_releasing_them_is_warned_of(tuned, scratch, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="src.engine.release"):
        for name, run_dir in (("free", scratch), ("bound", tuned)):
            options = [f"ckpt_path={run_dir}", f"name={name}", f"folder={tmp_path}", f"run_dir={tmp_path}"]
            release(compose_config("release", *options))
    (record,) = caplog.records
    assert "bound.safetensors is for your own use. CC BY-NC-ND 4.0" in record.getMessage()


def test_they_are_not_published(released, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    options = ["name=own", f"folder={released}", f"run_dir={released}", f"runs={released / 'eval'}", "hub=me/own"]
    with pytest.raises(ConfigError, match=r"own\.safetensors must not be published\. CC BY-NC-ND 4\.0.*Leave hub out"):
        release(compose_config("release", *options))


def test_an_exported_file_says_it(released, exported, tmp_path):
    weights = load_weights(released / "own.safetensors")
    spec, path = weights.spec, tmp_path / "own.onnx"
    # Another model's graph: to export this one takes ten seconds more.
    save(onnx.load(exported.files["fp32"]), path, DeployedModel(build_from_weights(weights)), "fp32")
    metadata = ort.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert metadata["licence"] == spec.terms
    assert metadata["licence"].startswith(CREATIVE_COMMONS)
    assert json.loads(metadata["model_spec"])["origin"] == spec.origin.to_dict()
