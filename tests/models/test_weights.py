"""Tests of weights files: official, our own, and broken ones."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from safetensors.torch import load_file, save_file

from src.data.faces.generator import draw_face
from src.models.build import build_model, continue_spec, new_spec
from src.models.classifier import SPEC_KEY, ExpressionClassifier
from src.models.emonet import EmoNet
from src.models.spec import ModelSpec
from src.models.weights import build_from_weights, load_weights, read_official, save_safetensors, weights_digest
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.paths import ROOT
from src.utils.torch_files import read_checkpoint
from tests.models.conftest import CLASSES, MakeClassifier, MakeSpec
from tests.models.reference import reference_state

OFFICIAL_CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")


@pytest.fixture(scope="module")
def emonet() -> EmoNet:
    """An EmoNet whose activations are of order one."""
    model = EmoNet(8).eval()
    model.load_state_dict(reference_state({key: value.shape for key, value in model.state_dict().items()}))
    return model


@pytest.fixture(scope="module")
def official(emonet: EmoNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the authors' `emonet_8.pth`, written by `DataParallel`."""
    path = tmp_path_factory.mktemp("official") / "emonet_8.pth"
    torch.save({f"module.{key}": value for key, value in emonet.state_dict().items()}, path)
    return path


def build_official(
    weights: Path, class_names: tuple[str, ...], head: str = "emonet", **keys: Any
) -> ExpressionClassifier:
    backbone = {**load_group("backbone", "emonet_8"), "weights": str(weights), "blob_id": None}
    spec = new_spec(
        backbone,
        {**load_group("head", head), **keys},
        class_names,
        image_size=64,
        grayscale=False,
        outputs=("expression",),
        trained_on="test",
        precision="32-true",
    )
    return build_model(spec, backbone).eval()


@torch.no_grad()
def assert_same_outputs(a: ExpressionClassifier, b: ExpressionClassifier) -> None:
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(a.eval()(images).logits, b.eval()(images).logits)


@pytest.fixture
def checkpoint(tmp_path: Path, fit: Callable[..., Trainer]) -> tuple[Path, ExpressionClassifier]:
    """A `.ckpt` that Lightning wrote, and the model in it."""
    trainer = fit(epochs=1)
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    trainer.save_checkpoint(path)
    return path, trainer.lightning_module


def test_git_blob_id_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1000))
    said = subprocess.check_output(["git", "hash-object", "--no-filters", str(path)], text=True)
    assert git_blob_id(path) == said.strip()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [False, True])
def test_official_weights_load_with_any_prefix(tmp_path: Path, prefix: str, legacy: bool) -> None:
    expected = EmoNet(8, width=16, n_hourglass=1).state_dict()
    path = tmp_path / "emonet_8.pth"
    state = {f"{prefix}{key}": value for key, value in expected.items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    found = read_official(path, None)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@torch.no_grad()
def test_official_weights_reproduce_emonet(official: Path, emonet: EmoNet) -> None:
    model = build_official(official, OFFICIAL_CLASSES, valence_arousal=True)
    images = torch.rand(2, 3, 64, 64)
    expected, actual = emonet(images), model(images)
    torch.testing.assert_close(actual.logits, expected.expression)
    torch.testing.assert_close(actual.valence, expected.valence)
    torch.testing.assert_close(actual.arousal, expected.arousal)


@torch.no_grad()
def test_official_classifier_is_mapped_by_name(official: Path, emonet: EmoNet) -> None:
    names = ("angry", "neutral", "sad")
    images = torch.rand(2, 3, 64, 64)
    expected = emonet(images).expression[:, [OFFICIAL_CLASSES.index(name) for name in names]]
    torch.testing.assert_close(build_official(official, names)(images).logits, expected)


@torch.no_grad()
def test_official_weights_under_another_head(official: Path, emonet: EmoNet) -> None:
    model = build_official(official, CLASSES, head="linear_flat")
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.features(images), emonet.features(images, "fused"))
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_another_blob_id_is_a_warning(official: Path, caplog: pytest.LogCaptureFixture) -> None:
    published = load_group("backbone", "emonet_8")["blob_id"]
    with caplog.at_level(logging.WARNING):
        read_official(official, published)
    (record,) = caplog.records
    assert published in record.getMessage()
    assert git_blob_id(official) in record.getMessage()


def test_the_published_blob_id_is_silent(official: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_official(official, git_blob_id(official))
    assert not caplog.records


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".pth"])
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, make_classifier: MakeClassifier, suffix: str, value: float
) -> None:
    model = make_classifier()
    path = tmp_path / f"model{suffix}"
    model.backbone.conv1.weight.data[3, 0, 2, 2] = value
    state = model.state_dict()
    if suffix == ".safetensors":
        save_safetensors(model, path)
    elif suffix == ".ckpt":
        torch.save({SPEC_KEY: model.spec.to_dict(), "state_dict": state}, path)
    else:
        torch.save({f"module.{key.removeprefix('backbone.')}": tensor for key, tensor in state.items()}, path)
    prefix = "module." if suffix == ".pth" else "backbone."
    with pytest.raises(ConfigError, match=rf"model{suffix} has NaN or infinite values in {prefix}conv1\.weight: "):
        read_official(path, None) if suffix == ".pth" else load_weights(path)


def test_missing_official_weights_say_where_to_get_them(tmp_path: Path) -> None:
    path = tmp_path / "emonet_8.pth"
    with pytest.raises(ConfigError) as error:
        read_official(path, None)
    for part in (f"backbone.weights={path}", "https://github.com/face-analysis/emonet", "backbone=emonet_scratch"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("conv1.bias"), r"1 missing \(conv1\.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra"),
        (lambda state: state.update({"conv1.bias": torch.zeros(3)}), r"1 of another shape \(conv1\.bias"),
    ],
)
def test_official_weights_of_another_network_are_refused(
    tmp_path: Path, emonet: EmoNet, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    path = tmp_path / "emonet_8.pth"
    state = emonet.state_dict()
    change(state)
    torch.save(state, path)
    with pytest.raises(ConfigError, match=rf"emonet_8\.pth does not fit the model: {named}.*backbone="):
        build_official(path, OFFICIAL_CLASSES)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, write: Callable[..., Any]) -> None:
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    write({"state_dict": Touch(trace)}, path)
    with pytest.raises(ConfigError, match=r"evil\.ckpt cannot be read"):
        load_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files_are_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"weight": torch.rand(50)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for size in {*range(0, len(content), 7), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(ConfigError, match=r"cut\.pth cannot be read"):
            read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], "text", torch.zeros(2)])
def test_other_torch_files_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ConfigError, match=f"holds a {type(content).__name__}; expected a checkpoint"):
        load_weights(path)


def test_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ConfigError, match="not a checkpoint of this framework"):
        load_weights(path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 10])
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.safetensors cannot be read as safetensors"):
        load_weights(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match="not a weights file of this framework"):
        load_weights(path)


@pytest.mark.parametrize("head", ["linear", "linear_flat", "linear_bottleneck", "self_attention", "multihead"])
def test_safetensors_round_trip(
    tmp_path: Path, make_spec: MakeSpec, make_classifier: MakeClassifier, head: str
) -> None:
    model = make_classifier(make_spec(head={"name": head, "valence_arousal": True}))
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path)
    weights = load_weights(path)
    assert weights.spec == model.spec
    assert_same_outputs(build_from_weights(weights), model)


def test_safetensors_are_as_readable_as_any_file(
    tmp_path: Path, make_spec: MakeSpec, make_classifier: MakeClassifier
) -> None:
    (tmp_path / "any").touch()
    save_safetensors(make_classifier(make_spec()), tmp_path / "own.safetensors")
    modes = [(tmp_path / name).stat().st_mode for name in ("any", "own.safetensors")]
    assert modes[0] == modes[1]


def test_safetensors_hold_only_the_model(tmp_path: Path, make_classifier: MakeClassifier) -> None:
    save_safetensors(make_classifier(), tmp_path / "model.safetensors")
    assert all(key.startswith(("backbone.", "head.")) for key in load_file(tmp_path / "model.safetensors"))


def test_checkpoint_round_trip(checkpoint: tuple[Path, ExpressionClassifier]) -> None:
    path, model = checkpoint
    weights = load_weights(path)
    assert weights.spec == model.spec
    assert_same_outputs(build_from_weights(weights), model)


def test_checkpoint_holds_tensors_names_and_numbers(checkpoint: tuple[Path, ExpressionClassifier]) -> None:
    content = torch.load(checkpoint[0], weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())
    assert json.loads(json.dumps(content[SPEC_KEY])) == content[SPEC_KEY]


def test_own_weights_start_another_model(tmp_path: Path, make_spec: MakeSpec, make_classifier: MakeClassifier) -> None:
    trained = make_classifier(make_spec(backbone={"n_blocks": 3}, head={"name": "emonet", "tap": "pooled"}))
    path = tmp_path / "model.safetensors"
    save_safetensors(trained, path)
    config = {**load_group("backbone", "emonet_tiny"), "weights": str(path), "freeze": "all"}
    start = load_weights(path)
    model = build_model(continue_spec(make_spec(), start.spec, config), config, start).eval()
    assert model.spec.backbone == {**trained.spec.backbone, "name": "emonet_tiny"}
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = trained.eval().backbone.features(images, "fused")
        assert torch.equal(model.features(images), expected)


@pytest.mark.parametrize("known", [False, True])
def test_landmarks_start_from_weights_that_have_none(
    known: bool, tmp_path: Path, make_spec: MakeSpec, make_classifier: MakeClassifier
) -> None:
    outputs = ("expression", "landmarks")
    trained = make_classifier(make_spec(outputs=outputs if known else ("expression",)))
    path = tmp_path / "model.safetensors"
    save_safetensors(trained, path)
    start, config = load_weights(path), {**load_group("backbone", "emonet_tiny"), "weights": str(path)}
    model = build_model(make_spec(outputs=outputs), config, start).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images).logits, trained.eval()(images).logits)
    heat = model.get_submodule(f"backbone.l{model.backbone.n_hourglass - 1}")
    assert torch.equal(heat.weight[0], heat.weight[1]) is not known


def test_own_weights_without_the_blocks_of_the_tap_are_refused(
    tmp_path: Path, make_spec: MakeSpec, make_classifier: MakeClassifier
) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(make_classifier(), path)
    config = {**load_group("backbone", "emonet_tiny"), "weights": str(path)}
    start = load_weights(path)
    with pytest.raises(ConfigError, match=r"trained at head\.tap=fused and has no emo_net_2\..*choose head\.tap=fused"):
        build_model(make_spec(head={"name": "emonet", "tap": "pooled"}), config, start)


def test_weights_that_do_not_fit_their_description_are_refused(tmp_path: Path, make_classifier: MakeClassifier) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(make_classifier(), path)
    weights = load_weights(path)
    del weights.state["head.classify.bias"]
    with pytest.raises(ConfigError, match=r"1 missing \(head\.classify\.bias"):
        build_from_weights(weights)


def test_spec_round_trip(make_spec: MakeSpec) -> None:
    spec = make_spec(head={"name": "multihead", "embed_dim": 32, "n_heads": 2, "valence_arousal": True})
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    head = spec.build_head()
    assert (head.attention.embed_dim, head.attention.num_heads, head.n_outputs) == (32, 2, 9)


@pytest.mark.parametrize("key", ["backbone", "head", "class_names", "image_size", "outputs"])
def test_incomplete_specs_are_refused(make_spec: MakeSpec, key: str) -> None:
    data = make_spec().to_dict()
    del data[key]
    with pytest.raises(ConfigError, match=f"model description.*{key}"):
        ModelSpec.from_dict(data)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": {"width": 8192}}, "width=8192"),
        ({"backbone": {"width": 2**61}}, "width="),
        ({"backbone": {"n_hourglass": 1_000_000}}, "n_hourglass=1000000"),
        ({"image_size": 16384}, "maps of 268,435,456 numbers"),
        ({"head": {"name": "multihead", "embed_dim": 10**6}}, "embed_dim"),
        ({"class_names": tuple(map(str, range(10**5)))}, "class_names"),
        ({"vocabularies": {"a": tuple(map(str, range(10**5)))}}, "vocabularies"),
        ({"temperatures": {"expression": float("nan")}}, "temperatures"),
        ({"backbone": {"mask_limit": float("inf")}}, "mask_limit"),
        ({"image_size": 1536, "head": {"name": "self_attention"}}, "SelfAttentionHead"),
    ],
)
def test_models_that_fit_into_no_memory_are_refused(make_spec: MakeSpec, change: dict[str, Any], named: str) -> None:
    data = make_spec(**change).to_dict()
    with pytest.raises(ConfigError, match=named):
        ModelSpec.from_dict(data, "any.ckpt").build_head()


@pytest.mark.parametrize("value", [None, "four", 0, -4, 2.5, [4]])
def test_arguments_that_a_head_can_do_nothing_with_are_refused(make_spec: MakeSpec, value: object) -> None:
    spec = make_spec(head={"name": "multihead", "embed_dim": value})
    with pytest.raises(ConfigError, match=r"embed_dim"):
        spec.build_head()


def test_descriptions_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.safetensors"
    save_file({"a": torch.zeros(1)}, path, {SPEC_KEY: "[" * 200_000})
    with pytest.raises(ConfigError, match="broken model description"):
        load_weights(path)


@pytest.mark.parametrize("name", ["nonsense", "../x", "../head/linear", "/etc/passwd", "linear.yaml", "", "default"])
def test_unknown_heads_are_refused(make_spec: MakeSpec, name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one of emonet, .*linear, linear_bottleneck"):
        make_spec(head={"name": name}).build_head()


def test_a_target_in_a_spec_is_ignored(make_spec: MakeSpec) -> None:
    head = make_spec(head={"_target_": "builtins.dict"}).build_head()
    assert type(head).__name__ == "LinearHead"


@pytest.mark.parametrize("key", ["valence_arousal", "tap"])
def test_nothing_found_in_a_spec_is_run(tmp_path: Path, make_spec: MakeSpec, key: str) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.touch()
    call = {"_target_": "shutil.copyfile", "src": str(source), "dst": str(copy)}
    data = make_spec(head={key: call}).to_dict()
    with pytest.raises(ConfigError):
        ModelSpec.from_dict(data).build_head()
    assert not copy.exists()


def test_interpolations_in_a_spec_are_not_resolved(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TAP", "fused")
    with pytest.raises(ConfigError):
        ModelSpec.from_dict(make_spec(head={"valence_arousal": "${oc.env:SECRET_TAP}"}).to_dict()).build_head()


def test_half_precision_keeps_the_predictions(tmp_path):
    """Matrices are halved, the variances of batch-norm, which exceed the range of half precision, are not."""
    shipped = load_weights(ROOT / "pretrained" / "emonet_fer.safetensors")
    assert list(shipped.spec.vocabularies) == ["fer2013", "ferplus"]
    model = build_from_weights(shipped).eval()
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    model.backbone.conv3.bn2.running_var.fill_(1e6)
    image = torch.from_numpy(draw_face(0, 0, grayscale=True).image).permute(2, 0, 1)[None] / 255
    save_safetensors(model, tmp_path / "half.safetensors", half=True)
    again = build_from_weights(load_weights(tmp_path / "half.safetensors")).eval()
    with torch.no_grad():
        assert torch.equal(model(image).logits, again(image).logits)


def digest(module):
    return weights_digest(module.state_dict())


def test_digests_tell_states_apart():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert digest(one) != digest(other)
    other.load_state_dict(one.state_dict())
    assert digest(one) == digest(other)
    assert digest(one) != digest(one.half())
