"""Tests of what a model's description says of the weights that it started from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.models import origin
from src.models.build import find_origin, official_spec
from src.models.emonet import EmoNet
from src.models.origin import DATA_TERMS, LICENSES, NO_DERIVATIVES, RESEARCH, Ancestor, Origin
from src.models.spec import ModelSpec
from src.models.weights import Weights, load_weights, peek_spec
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.paths import ROOT

FILE = Ancestor("best.ckpt", "0123", "faces-4567")
SHIPPED = sorted((ROOT / "pretrained").glob("*.safetensors"))


@pytest.fixture
def start(tmp_path, make_spec):
    """Return a function that gives weights of ours with an origin, in a file."""

    def make(known, **backbone):
        path = tmp_path / "start.ckpt"
        path.write_bytes(b"weights")
        return Weights(make_spec(backbone=backbone, origin=known), {}, path)

    return make


@pytest.fixture
def foreign(tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save(EmoNet(8, width=16, n_hourglass=1).state_dict(), path)
    return path


def test_published_files_are_those_of_the_configuration():
    files = {load_group("backbone", name)["blob_id"]: f"{name}.pth" for name in origin.OFFICIAL_BACKBONES}
    assert files == origin.OFFICIAL_FILES


@pytest.mark.parametrize(
    "known", [None, Origin(DATA_TERMS), Origin(NO_DERIVATIVES, (FILE, FILE)), Origin(RESEARCH, (), (FILE,))]
)
def test_a_description_keeps_its_origin(make_spec, known):
    spec = make_spec(origin=known)
    data = spec.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert ModelSpec.from_dict(data) == spec


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.update(license="MIT"), "MIT"),
        (lambda data: data.pop("license"), "license"),
        (lambda data: data.update(ancestors=[{"name": "a"}]), "blob_id"),
        (lambda data: data.update(ancestors=["a"]), "dictionary"),
    ],
)
def test_a_broken_origin_is_refused(make_spec, change, named):
    data = make_spec(origin=Origin(RESEARCH, (FILE,))).to_dict()
    change(data["origin"])
    with pytest.raises(ConfigError, match=f"model description of these weights is broken.*{named}"):
        ModelSpec.from_dict(data)


@pytest.mark.parametrize(("name", "expected"), [("emonet_8", NO_DERIVATIVES), ("emonet_scratch", RESEARCH)])
def test_older_descriptions_have_the_terms_that_their_name_tells(make_spec, name, expected):
    data = make_spec(backbone={"name": name}).to_dict()
    del data["origin"]
    spec = ModelSpec.from_dict(data)
    assert (spec.origin, spec.license) == (None, expected)
    assert spec.terms == f"{LICENSES[expected]} Trained on: test-0123. Not to be used to judge people."


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_for_research_as_their_cards_say(path):
    spec = peek_spec(path)
    assert spec.license == RESEARCH
    assert f"\n## Licence\n\n{spec.terms}\n" in path.with_suffix(".md").read_text()


def test_published_files_are_known_by_their_content(foreign, monkeypatch):
    monkeypatch.setitem(origin.OFFICIAL_FILES, git_blob_id(foreign), "emonet_5.pth")
    known = find_origin(str(foreign))
    assert known.license == NO_DERIVATIVES
    assert known.ancestors == (Ancestor("emonet_5.pth of EmoNet's authors", git_blob_id(foreign), "AffectNet"),)


def test_other_files_of_their_format_are_taken_for_theirs(foreign):
    known = find_origin(str(foreign))
    assert known.license == NO_DERIVATIVES
    (ancestor,) = known.ancestors
    assert ancestor.name == "foreign.pth, taken for a file of EmoNet's authors by its format"
    assert ancestor.trained_on == "unknown data"


def test_a_published_model_as_it_is_has_their_terms(foreign):
    backbone = {**load_group("backbone", "emonet_8"), "weights": str(foreign)}
    spec = official_spec(backbone, load_group("head", "emonet"), ("neutral", "happy"))
    assert spec.terms.startswith("CC BY-NC-ND 4.0")
    assert spec.origin == find_origin(str(foreign))


def test_missing_files_are_said_to_be_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"weights=.*gone\.pth does not exist.*github\.com/face-analysis/emonet"):
        find_origin(str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("license", LICENSES)
def test_the_terms_of_a_chain_are_kept(start, license):
    weights = start(Origin(license, (FILE,)))
    known = find_origin(str(weights.path), weights)
    assert known == Origin(license, (Ancestor("start.ckpt", git_blob_id(weights.path), "test-0123"), FILE))


@pytest.mark.parametrize(("name", "expected"), [("emonet_5", NO_DERIVATIVES), ("emonet_tiny", RESEARCH)])
def test_a_chain_that_starts_with_older_weights_has_their_terms(start, name, expected):
    weights = start(None, name=name)
    assert find_origin(str(weights.path), weights).license == expected


def test_a_chain_keeps_the_teachers_of_what_it_starts_with(start):
    weights = start(Origin(RESEARCH, (), (FILE,)))
    assert find_origin(str(weights.path), weights) == Origin(RESEARCH, (weights.as_ancestor(),), (FILE,))


def test_a_teacher_is_named_once_and_its_terms_are_inherited(make_spec):
    known = Origin(DATA_TERMS).taught_by(FILE, NO_DERIVATIVES)
    assert known == Origin(NO_DERIVATIVES, (), (FILE,))
    assert known.taught_by(FILE, RESEARCH) == known
    terms = make_spec(origin=known).terms
    assert "Learned from the predictions of: best.ckpt (git blob id 0123, trained on faces-4567). Not to be" in terms
    assert "Started from" not in terms


def test_descriptions_from_before_teachers_were_named_have_none(make_spec):
    data = make_spec(origin=Origin(RESEARCH, (FILE,))).to_dict()
    del data["origin"]["teachers"]
    assert ModelSpec.from_dict(data).origin == Origin(RESEARCH, (FILE,))


def test_the_more_restrictive_license_counts():
    order = [DATA_TERMS, RESEARCH, NO_DERIVATIVES]
    for i, own in enumerate(order):
        for j, other in enumerate(order):
            assert Origin(own, (FILE,)).at_least(other) == Origin(order[max(i, j)], (FILE,))


def test_terms_name_the_chain_and_no_place(make_spec, start):
    weights = start(Origin(RESEARCH, (FILE,)))
    spec = replace(make_spec(), origin=find_origin(str(weights.path), weights))
    assert "Started from: start.ckpt (git blob id " in spec.terms
    assert "; best.ckpt (git blob id 0123, trained on faces-4567). Not to be" in spec.terms
    assert str(Path(weights.path).parent) not in json.dumps(spec.to_dict())


def test_weights_of_before_there_were_origins_load():
    description = load_weights(SHIPPED[-1]).spec.to_dict()
    del description["origin"]
    assert ModelSpec.from_dict(description).origin is None
