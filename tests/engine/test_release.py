"""From a run to shipped weights and their card."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open

from src.data.faces.generator import draw_face
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.load import starting_weights
from src.engine.release import release
from src.metrics.calibration import fit_temperature, retemper
from src.models.classifier import ExpressionClassifier
from src.models.weights import build_from_weights, check_fingerprint, load_weights
from src.reports.model_card import portable
from src.runs.directory import environment, update_provenance
from src.runs.layout import find_checkpoint
from src.utils.checksums import file_sha256
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.hub import TOKEN
from tests.helpers.running import NO_FIGURES, compose_config

DATA = ["data=synthetic", "data.draw_gray=true", "data.n_train=7", "data.n_val=70", "data.n_test=35"]
SHIPPED = ROOT / "pretrained" / "emonet_fer.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose model knows something: with the shipped weights."""
    run_dir = tmp_path_factory.mktemp("trained")
    (run_dir / "checkpoints").mkdir()
    shutil.copy(SHIPPED, run_dir / "checkpoints" / "best.safetensors")
    update_provenance(run_dir, **environment(["head=emonet", "data.path=/home/me/faces.csv"], {"data": "synthetic"}))
    return run_dir / "checkpoints" / "best.safetensors"


def evaluated(folder, data_dir, ckpt_path, *options):
    folder.mkdir(parents=True)
    common = [
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.enable_progress_bar=false",
        f"run_dir={folder}",
        f"data_dir={data_dir}",
    ]
    update_provenance(folder, overrides=[f"ckpt_path={ckpt_path}", *options])
    run_evaluation(compose_config("eval", *common, *NO_FIGURES, *DATA, f"ckpt_path={ckpt_path}", *options))
    return folder


def run(folder, *options):
    release(compose_config("release", f"folder={folder}", "name=own", f"run_dir={folder}", *options))


@pytest.fixture(scope="module")
def released(trained, tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("released")
    val = evaluated(folder / "val", data_dir, trained, "split=val")
    run(folder, f"ckpt_path={trained}", f"calibrate={val}", "derived=[valence_arousal]")
    tests = [
        evaluated(folder / name, data_dir, folder / "own.safetensors", *options)
        for name, options in (("test", []), ("views", ["tta=flip"]), ("again", ["split=val"]))
    ]
    run(folder, f"runs=[{','.join(map(str, tests))}]")
    return folder


def test_probabilities_are_tempered_and_nothing_else_changes(released, trained):
    before, after = (pd.read_csv(released / name / "predictions.csv") for name in ("val", "again"))
    names = list(load_weights(released / "own.safetensors").spec.class_names)
    temperature = load_weights(released / "own.safetensors").spec.temperatures["fer2013"]
    labels = before["label"].map(names.index).to_numpy()
    # The probabilities were already divided by the temperature of the weights that the training started from.
    factor = fit_temperature(before[names].to_numpy(), labels)
    start = load_weights(trained).spec.temperatures.get("fer2013", 1.0)
    assert temperature == pytest.approx(start * factor, rel=1e-6)
    assert 1.05 < temperature < 10
    # Its weights are those of a file in half precision already.
    assert after[names].to_numpy() == pytest.approx(retemper(before[names].to_numpy(), factor), abs=1e-5)
    assert after["valence"].to_numpy() == pytest.approx(before["valence"].to_numpy(), abs=1e-5)
    assert (after["prediction"] == before["prediction"]).mean() == 1


def test_the_file_is_half_precision_and_says_what_it_is(released):
    with safe_open(released / "own.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert file.get_tensor("head.fc.0.weight").dtype == torch.float16
    spec = json.loads(metadata["model_spec"])
    assert spec["value_range"] == [0.0, 1.0]
    assert {"image_size", "grayscale", "crop", "class_names", "outputs", "derived", "normalize"} <= spec.keys()
    assert spec["derived"] == ["valence_arousal"]
    assert json.loads(metadata["origin"])["overrides"] == ["head=emonet", "data.path=faces.csv"]


def test_the_card_has_the_numbers_of_the_runs(released):
    card = (released / "own.md").read_text()
    assert file_sha256(released / "own.safetensors") in card
    assert "python -m src.train head=emonet data.path=faces.csv" in card
    assert "python -m src.eval ckpt_path=own.safetensors tta=flip" in card
    assert card.count("\n### ") == 3
    metrics = json.loads((released / "test" / "metrics.json").read_text())
    low, high = metrics["test/accuracy_ci95"]
    assert f"{100 * metrics['test/accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in card
    single = json.loads((released / "views" / "metrics.json").read_text())["test/accuracy_single_view"]
    assert f"| all, one view of each | {100 * single:.1f} %" in card
    # Averaged views have no temperature of their own.
    assert card.count("| calibration | before |") == 2
    table = pd.read_csv(released / "test" / "predictions.csv")
    sad = table[table["label"] == "sad"]
    fractions = [f"{100 * (sad['prediction'] == name).mean():.0f}" for name in table.columns[5:12]]
    assert f"| **sad** | {' | '.join(fractions)} |" in card
    # Every table is whole: as many cells in each row as in its head.
    blocks = [block.splitlines() for block in card.split("\n\n") if block.startswith("|")]
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1, block
    # Those of the landmarks are among them, with the numbers of the runs.
    assert len(blocks) == 1 + 3 * 4 + 2
    inner = metrics["test/landmarks_median/inner"]
    assert f"| {100 * inner:.1f} %" in card


MISTAKES = {
    "neither": ([], "one of two things"),
    "no weights": (["runs=[a]"], "does not exist; write it first"),
    "no such run": (["ckpt_path={trained}", "calibrate=/nowhere"], "calibrate=/nowhere is no directory"),
    "test": (["ckpt_path={trained}", "calibrate={released}/test"], "fitted on validation: python"),
    "no card": (["ckpt_path={trained}", "hub=me/own"], "hub=me/own publishes weights with their card"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake, tmp_path, trained, released):
    options, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, *(option.format(trained=trained, released=released) for option in options))
    assert not (tmp_path / "own.safetensors").exists()


def test_a_card_needs_tests_of_these_weights(released):
    with pytest.raises(ConfigError, match="evaluated other weights"):
        run(released, f"runs={released / 'val'}")


@pytest.fixture
def copied(released, tmp_path):
    """The released weights alone."""
    shutil.copy(released / "own.safetensors", tmp_path)
    return tmp_path


def test_published_weights_come_back_as_they_are(released, copied, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    exported = shutil.copy(SHIPPED.with_name("emonet_fer_int8.onnx"), copied / "own_int8.onnx")  # of the same weights
    run(copied, f"runs={released / 'test'}", "hub=me/own")
    repository = hub.repositories["me/own"]
    local = {name: (copied / name).read_bytes() for name in ("own.safetensors", "own_int8.onnx")}
    assert repository.files.keys() == {".gitattributes", "README.md", "LICENSE.md", *local}
    assert local.items() <= repository.files.items()
    assert repository.messages == ["", "Release own"], "one commit"
    assert f"Published: {hub.address}/me/own/commit/{repository.refs['main']}" in capsys.readouterr().err
    found = find_checkpoint("hf://me/own")
    assert {name: found.with_name(name).read_bytes() for name in local} == local
    assert not [name for name, content in repository.files.items() if TOKEN.encode() in content]
    assert not [file for file in copied.iterdir() if TOKEN.encode() in file.read_bytes()]

    # What was exported from other weights of this name goes.
    exported.unlink()
    run(copied, f"runs={released / 'test'}", "hub=me/own")
    assert repository.files.keys() == {".gitattributes", "README.md", "LICENSE.md", "own.safetensors"}


def test_the_published_card_can_be_read_by_machines(released, copied, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    runs = {name: json.loads((released / name / "metrics.json").read_text()) for name in ("test", "views", "again")}
    run(copied, f"runs=[{','.join(str(released / name) for name in runs)}]", "hub=me/own")
    files = hub.repositories["me/own"].files
    card = ModelCard(files["README.md"].decode())
    assert (copied / "own.md").read_text().strip() in card.text
    assert "ckpt_path=hf://me/own " in card.text
    data = card.data.to_dict()
    assert (data["pipeline_tag"], data["library_name"]) == ("image-classification", "emonet-fer")
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "research-use", "LICENSE.md")
    spec = load_weights(copied / "own.safetensors").spec
    assert files["LICENSE.md"].decode() == f"{spec.terms}\n"
    assert data["datasets"] == ["fer2013_votes", "combined"]
    found = {
        (r.dataset_split, r.dataset_config, r.metric_type, *(r.metric_args or {}).values()): r.metric_value
        for r in card.data.eval_results
    }
    assert {r.dataset_name for r in card.data.eval_results} == {"synthetic"}
    assert len(found) == len(card.data.eval_results) >= 3 * 4
    assert found["test", None, "accuracy"] == runs["test"]["test/accuracy"]
    assert found["test", None, "f1", "macro"] == runs["test"]["test/f1_macro"]
    assert found["test", None, "f1", "weighted"] == runs["test"]["test/f1_weighted"]
    assert found["test", "tta=flip", "balanced_accuracy"] == runs["views"]["test/balanced_accuracy"]
    assert found["val", None, "accuracy"] == runs["again"]["val/accuracy"]


def test_nothing_is_published_without_leave(released, copied, hub, monkeypatch):
    options = [f"runs={released / 'test'}", "hub=me/own"]
    with pytest.raises(ConfigError, match=r"hub=me/own needs an account .*HF_TOKEN"):
        run(copied, *options)
    assert not hub.requests
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(ConfigError, match=r"hub=me/own: the Hub does not allow it .*; log in"):
        run(copied, *options)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ConfigError, match=r"hub=others/own: the Hub does not allow it .*; log in"):
        run(copied, options[0], "hub=others/own")
    shutil.copy(SHIPPED.with_name("emonet_fer_small_int8.onnx"), copied / "own_int8.onnx")
    with pytest.raises(
        ConfigError, match=r"own_int8\.onnx was not made from own\.safetensors.*remove it, or export it"
    ):
        run(copied, *options)
    assert not hub.repositories


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "backbone").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_weights_have_their_fingerprint(path):
    keys = yaml.safe_load(path.read_text())
    if keys.get("sha256"):
        check_fingerprint(ROOT / "pretrained" / f"{path.stem}.safetensors", keys["sha256"])
    else:
        assert not (ROOT / "pretrained" / f"{path.stem}.safetensors").exists()


def test_the_small_network_is_small_and_agrees_with_its_teacher():
    path = SHIPPED.with_stem("emonet_fer_small")
    assert path.stat().st_size <= 5_000_000
    small, teacher = (build_from_weights(load_weights(file)).eval() for file in (path, SHIPPED))
    assert sum(parameter.numel() for parameter in small.parameters()) <= 2_000_000
    faces = np.stack([draw_face(0, index, grayscale=True).image for index in range(70)])
    image = torch.from_numpy(faces).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        labels = [model(image).logits.argmax(dim=1) for model in (small, teacher)]
    assert small.spec.class_names == teacher.spec.class_names
    # By chance, it would be a third at most.
    assert (labels[0] == labels[1]).float().mean() > 0.4


def test_shipped_weights_must_be_what_the_code_knows():
    assert starting_weights(str(SHIPPED), None).spec.temperatures
    with pytest.raises(ConfigError, match=r"expected backbone\.sha256=0123.*git checkout.*backbone\.sha256=null"):
        starting_weights(str(SHIPPED), "0123")


def test_weights_from_elsewhere_need_no_fingerprint(released):
    assert starting_weights(str(released / "own.safetensors"), "0123").spec.temperatures


def test_a_temperature_divides_the_logits_of_its_vocabulary():
    shipped = load_weights(SHIPPED).spec
    small = replace(shipped, backbone={**shipped.backbone, "width": 16, "n_hourglass": 1}, temperatures={})
    plain = ExpressionClassifier(small, small.build_backbone(), small.build_head()).eval()
    tempered = replace(small, temperatures={"fer2013": 2.0, "ferplus": 4.0})
    model = ExpressionClassifier(tempered, plain.backbone, plain.head).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = plain(image), model(image)
    assert torch.equal(found.logits, expected.logits / 2)
    assert torch.equal(found.second_logits, expected.second_logits)
    assert torch.equal(found.valence, expected.valence)


def test_a_card_names_no_place_on_this_machine():
    overrides = ["data.parts=[{name: a, path: /data/a.csv}, {name: b, path: /data/my b}]", f"ckpt_path={ROOT}/x/y.ckpt"]
    assert portable(overrides) == ["data.parts=[{name: a, path: a.csv}, {name: b, path: my b}]", "ckpt_path=x/y.ckpt"]
    assert portable(["optimizer.lr=1/2", "a='/b/c d'"]) == ["optimizer.lr=1/2", "a='c d'"]
    elsewhere = ["backbone.weights=hf://me/model@v1", "a=[hf://me/a/b.safetensors,hf://me/c]"]
    assert portable(elsewhere) == elsewhere
