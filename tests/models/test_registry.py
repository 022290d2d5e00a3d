"""Tests of the registry, and of what descriptions hold of the classes in it."""

import json

import pytest
import torch
import yaml
from hydra.utils import get_class

from src.models import registry
from src.models.build import build_model, new_spec
from src.models.emonet import EmoNet
from src.models.heads.base import Head
from src.models.heads.linear import LinearHead
from src.models.registry import backbone_class, check_target, head_class, register_backbone, register_head
from src.models.spec import ModelSpec
from src.models.weights import build_from_weights, load_weights, save_safetensors
from src.utils.errors import ConfigError
from src.utils.groups import load_group
from src.utils.paths import ROOT

HEADS = sorted(path.stem for path in (ROOT / "conf" / "head").glob("*.yaml") if path.stem != "default")
BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml") if path.stem != "default")
# As written before heads could have other arguments than numbers, and networks a name.
OLD_HEAD = {"name": "multihead", "tap": "fused", "valence_arousal": False, "embed_dim": 32, "n_heads": 2}
OLD_BACKBONE = {"name": "emonet_tiny", "width": 16, "n_hourglass": 1, "n_blocks": 4, "mask_limit": 16.0}
ARGUMENTS = {"text": "max", "none": None, "switch": True, "whole": 3, "number": 0.5, "several": [1, 0.5, "a", None]}


class Keeping(Head):
    """Keeps its arguments."""

    def __init__(self, *, text, none, switch, whole, number, several, **features):
        super().__init__(**features)
        self.kept = {"text": text, "none": none, "switch": switch, "whole": whole, "number": number, "several": several}
        self.classify = torch.nn.Linear(self.channels, self.n_outputs)

    def forward(self, features):
        return self.classify(features.mean(dim=(2, 3)))


class Doubled(EmoNet):
    """Multiplies its features, by a factor that its weights do not hold."""

    def __init__(self, *, factor=1.0, **sizes):
        super().__init__(**sizes)
        self.factor = factor

    def after_fusion(self, fused, tap):
        return self.factor * super().after_fusion(fused, tap)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    head_class("linear")  # ours stay
    monkeypatch.setattr(registry, "_heads", dict(registry._heads))
    monkeypatch.setattr(registry, "_backbones", dict(registry._backbones))


def spec_of(head=None, backbone=None):
    shared = {key: value for key, value in load_group("head", "linear").items() if key != "width"}
    return new_spec(
        {**load_group("backbone", "emonet_tiny"), "width": 16, **(backbone or {})},
        {**shared, **(head or {})},
        ("happy", "sad"),
        image_size=64,
        grayscale=False,
        outputs=("expression",),
        trained_on="test-0123",
        precision="32-true",
    )


@pytest.mark.parametrize("name", HEADS)
def test_shipped_heads_are_registered(name):
    own = yaml.safe_load((ROOT / "conf" / "head" / f"{name}.yaml").read_text())
    assert head_class(own["name"]) is get_class(own["_target_"])


@pytest.mark.parametrize("name", BACKBONES)
def test_shipped_backbones_are_registered(name):
    assert backbone_class(load_group("backbone", name)["architecture"]) is EmoNet


def test_arguments_of_every_plain_kind_survive(tmp_path):
    register_head("keeping")(Keeping)
    spec = spec_of({"name": "keeping", "_target_": f"{__name__}.Keeping", **ARGUMENTS})
    torch.save(spec.to_dict(), tmp_path / "spec.ckpt")
    for data in (torch.load(tmp_path / "spec.ckpt", weights_only=True), json.loads(json.dumps(spec.to_dict()))):
        again = ModelSpec.from_dict(data)
        assert again == spec
        assert again.build_head().kept == ARGUMENTS


def test_other_arguments_are_refused_before_training():
    register_head("keeping")(Keeping)
    with pytest.raises(ConfigError, match=r"head\.several=\{'a': 1\}; expected text, a number"):
        spec_of({"name": "keeping", "_target_": None, **ARGUMENTS, "several": {"a": 1}})


def test_arguments_that_a_class_does_not_take_are_refused():
    with pytest.raises(ConfigError, match=r"head\.n_head is no argument of LinearHead; expected tap, valence_arousal"):
        spec_of({"n_head": 8}).build_head()
    with pytest.raises(ConfigError, match=r"head\.channels is no argument"):
        spec_of({"channels": 8}).build_head()


def test_old_descriptions_are_those_of_today():
    new = spec_of({**load_group("head", "multihead"), "embed_dim": 32, "n_heads": 2})
    assert (new.head, new.backbone) == (OLD_HEAD, OLD_BACKBONE)
    old = ModelSpec.from_dict({**new.to_dict(), "head": OLD_HEAD, "backbone": OLD_BACKBONE})
    assert old == new
    assert old.build_head().attention.num_heads == 2
    assert old.build_backbone().mask_limit == 16


def test_a_description_of_before_an_argument_has_its_default():
    new = spec_of(load_group("head", "linear"))
    assert new.head["width"] == 128
    described = {key: value for key, value in new.head.items() if key != "width"}
    assert ModelSpec.from_dict({**new.to_dict(), "head": described}) == new
    wide = ModelSpec.from_dict({**new.to_dict(), "head": {**described, "width": 32}})
    assert wide.build_head().classify.in_features == 32
    # A head that is not here keeps what it came with.
    foreign = {**described, "name": "elsewhere", "size": 3}
    assert ModelSpec.from_dict({**new.to_dict(), "head": foreign}).head == foreign


def test_a_network_of_ones_own_survives(tmp_path):
    register_backbone("doubled")(Doubled)
    config = {**load_group("backbone", "emonet_tiny"), "width": 16, "architecture": "doubled", "factor": 2}
    model = build_model(spec_of(backbone=config), config).eval()
    save_safetensors(model, tmp_path / "model.safetensors")
    weights = load_weights(tmp_path / "model.safetensors")
    assert weights.spec.backbone == {**OLD_BACKBONE, "architecture": "doubled", "factor": 2}
    again = build_from_weights(weights).eval()
    assert isinstance(again.backbone, Doubled)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.features(images), model.features(images))
        assert torch.equal(again.features(images), 2 * again.backbone.fuse(images)[0])
    registry._backbones.pop("doubled")
    with pytest.raises(ConfigError, match=r"backbone\.architecture='doubled' is unknown.*plugins=\["):
        build_from_weights(weights)


def test_names_are_given_once():
    register_head("keeping")(Keeping)
    register_head("keeping")(Keeping)  # a module that is loaded again
    for name in ("keeping", "multihead"):
        with pytest.raises(ConfigError, match=rf"register_head\('{name}'\) for .*Other.* has this name"):
            register_head(name)(type("Other", (Head,), {}))
    for name in ("", "../x", "a b"):
        with pytest.raises(ConfigError, match="expected a name of letters"):
            register_head(name)(Keeping)


def test_other_classes_are_refused():
    with pytest.raises(ConfigError, match=r"decorates .*Linear; expected a subclass of src\.models\.heads\.base\.Head"):
        register_head("line")(torch.nn.Linear)
    with pytest.raises(ConfigError, match=r"expected a subclass of src\.models\.emonet\.EmoNet"):
        register_backbone("line")(torch.nn.Linear)


def test_a_target_must_be_what_its_weights_will_name():
    check_target({"name": "linear", "_target_": "src.models.heads.linear.LinearHead"})
    check_target({"name": "linear"})
    for name, target, registered in (
        ("mine", f"{__name__}.Keeping", "nothing"),
        ("linear", f"{__name__}.Keeping", f"{LinearHead.__module__}.LinearHead"),
        ("linear", "src.models.heads.linear.Nothing", f"{LinearHead.__module__}.LinearHead"),
    ):
        with pytest.raises(ConfigError) as error:
            check_target({"name": name, "_target_": target})
        for part in (f"head._target_={target}", f"registered for {registered}", f"@register_head('{name}')"):
            assert part in str(error.value)
    with pytest.raises(ConfigError, match=r"head\._target_=nowhere\.Head cannot be imported"):
        check_target({"name": "linear", "_target_": "nowhere.Head"})
