"""Weights from the Hugging Face Hub, against a stand-in for it."""

import json
import os
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from src.models.weights import load_weights, save_safetensors
from src.runs import hub as own
from src.runs.layout import find_checkpoint
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError
from tests.exporting.tiny import tiny_model
from tests.helpers.forking import run_forked
from tests.helpers.hub import TOKEN, read_environment
from tests.helpers.running import NO_FIGURES, TINY_DATA


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The content of two files."""
    paths = [tmp_path_factory.mktemp("weights") / name for name in ("gray.safetensors", "colored.safetensors")]
    for path in paths:
        save_safetensors(tiny_model(grayscale=path.stem == "gray"), path)
    return [path.read_bytes() for path in paths]


def test_weights_arrive_as_they_are_and_nothing_else_does(hub, weights):
    others = {"model.pth": b"code", "own_int8.onnx": b"8 bits", "own_fp16.onnx": b"16 bits", "b_int8.onnx": b""}
    hub.add("me/model", {"own.safetensors": weights[0], **others})
    path = find_checkpoint("hf://me/model")
    assert path.read_bytes() == weights[0]
    assert load_weights(path).spec.backbone["width"] == 16
    assert {file.name for file in path.parent.iterdir()} == {"README.md", "own.safetensors", "own_int8.onnx"}


def test_a_revision_a_file_and_a_folder(hub, weights):
    repository = hub.add("me/model", {"own.safetensors": weights[0]})
    first = repository.refs["main"]
    repository.refs |= {"v1": first, "feature/x": first}
    repository.commit({"own.safetensors": weights[1], "deep/other one.safetensors": weights[0]})
    for location, content in {
        "hf://me/model@v1": weights[0],
        f"hf://me/model@{first}": weights[0],
        "hf://me/model@feature%2Fx/own.safetensors": weights[0],
        "hf://me/model/own.safetensors": weights[1],
        "hf://me/model@main/deep/other one.safetensors": weights[0],
    }.items():
        assert find_checkpoint(location).read_bytes() == content, location
    assert own.find("hf://me/model@v1", "ckpt_path").commit == first


def test_a_process_keeps_to_one_commit_unless_it_asks_for_the_latest(hub, weights):
    repository = hub.add("me/model", {"own.safetensors": weights[0]})
    before = own.find("hf://me/model", "ckpt_path")
    repository.commit({"own.safetensors": weights[1]})
    asked = len(hub.requests)
    assert own.find("hf://me/model", "backbone.weights") == before
    assert len(hub.requests) == asked
    after = own.download("me/model")
    assert (after.path.read_bytes(), after.commit) == (weights[1], repository.refs["main"])


def test_without_a_network_the_copy_is_used(hub, weights, monkeypatch):
    hub.add("me/model", {"own.safetensors": weights[0]})
    hub.add("me/other", {"own.safetensors": weights[0]})
    fetched = own.download("me/model")
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for _ in ("it is not to be asked", "it is not there"):
        read_environment()
        assert own.download("me/model") == own.download("me/model", name="own.safetensors") == fetched
        with pytest.raises(ConfigError, match=r"ckpt_path=hf://me/other: .* cannot be reached.*no copy.*name a file"):
            find_checkpoint("hf://me/other")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert len(hub.requests) == asked


MISTAKES = {
    "hf://me": "Expected hf://owner/name",
    "hf://me/": "Expected hf://owner/name",
    "hf://datasets/me/model": "no model but a dataset",
    "hf://me/nowhere": r"no such repository, or it is private; check its name, or log in .*HF_TOKEN",
    "hf://me/private": r"no such repository, or it is private; check its name, or log in",
    "hf://me/gated": r"owners decide who may have me/gated; ask them",
    "hf://me/several@v2": r"no such revision; expected a branch, a tag",
    "hf://me/several@0123456789012345678901234567890123456789": "no such revision",
    "hf://me/several": r"several weights: a\.safetensors, b\.safetensors\. Name one, such as hf://me/several/a\.safetensors",
    "hf://me/several/c.safetensors": r"has no c\.safetensors; expected one of a\.safetensors, b\.safetensors",
    "hf://me/several/a.ckpt": r"only \.safetensors files .* cannot hold code",
    "hf://me/several/../a.safetensors": r"has no \.\./a",
    "hf://me/none": r"has no \.safetensors file; expected weights that python -m src\.release",
    "hf://me/foreign": r"model\.safetensors is not a weights file of this framework",
    "hf://me/rubbish": "is not a weights file of this framework",
    "hf://me/list": "is not a weights file of this framework",
}


@pytest.mark.parametrize("location", MISTAKES)
def test_mistakes_are_named(location, hub, weights):
    hub.add("me/private", {"own.safetensors": weights[0]}, private=True)
    hub.add("me/gated", {"own.safetensors": weights[0]}, gated=True)
    hub.add("me/several", {"a.safetensors": weights[0], "b.safetensors": weights[1], "a.ckpt": b""})
    hub.add("me/none", {"model.pth": b""})
    hub.add("me/foreign", {"model.safetensors": foreign(10**6)})
    hub.add("me/rubbish", {"model.safetensors": b"rubbish" * 10})
    hub.add("me/list", {"model.safetensors": b"\2" + bytes(7) + b"[]"})
    with pytest.raises(ConfigError, match=f"^backbone.weights=hf://.*{MISTAKES[location]}"):
        find_checkpoint(location, argument="backbone.weights")


def test_a_command_takes_them_and_notes_the_commit(hub, weights, tmp_path, data_dir):
    repository = hub.add("me/model", {"own.safetensors": weights[0]})
    commit = repository.refs["v1.0"] = repository.refs["main"]
    repository.commit({})
    options = [*TINY_DATA, *NO_FIGURES, "trainer=cpu", f"data_dir={data_dir}", f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, **hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    arguments = ["ckpt_path=hf://me/model@v1.0/own.safetensors", *options]
    done = run_forked("src.eval", *arguments, env=environment, before=read_environment)
    assert done.returncode == 0, done.stderr
    path = own.download("me/model", revision="v1.0").path
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (provenance["weights"], provenance["weights_commit"]) == (git_blob_id(path), commit)
    assert f"hf://me/model@v1.0/own.safetensors: commit {commit}" in (tmp_path / "run" / "eval.log").read_text()


def foreign(size):
    """Weights of some other framework."""
    header = b'{"a": {"dtype": "U8", "shape": [%d], "data_offsets": [0, %d]}}' % (size, size)
    return len(header).to_bytes(8, "little") + header + bytes(size)


def test_foreign_weights_are_not_fetched(hub):
    hub.add("me/foreign", {"model.safetensors": foreign(10**6)})
    with pytest.raises(ConfigError, match="not a weights file"):
        own.download("me/foreign")
    card = Path(snapshot_download("me/foreign", local_files_only=True, allow_patterns="README.md"))
    assert [path.name for path in card.iterdir()] == ["README.md"]


def test_a_token_opens_what_is_private_and_is_kept_nowhere(hub, weights, monkeypatch, caplog):
    hub.add("me/private", {"own.safetensors": weights[0]}, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ConfigError, match=r"me/private: the Hub does not allow it .*; log in"):
        own.download("me/private")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    path = own.download("me/private").path
    assert path.read_bytes() == weights[0]
    assert not [file for file in path.parents[3].rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in caplog.text
