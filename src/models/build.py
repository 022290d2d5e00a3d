"""A new model from configuration, with or without weights to start from."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from src.models.arguments import arguments_of, plain_arguments
from src.models.classifier import ExpressionClassifier
from src.models.emonet import EmoNet
from src.models.heads.base import Head
from src.models.heads.emonet import EmoNetHead
from src.models.landmarks import start_heatmaps
from src.models.origin import DATA_TERMS, Origin, official_origin
from src.models.registry import backbone_class, check_target
from src.models.spec import BACKBONE_SIZES, EMONET, ModelSpec, head_arguments
from src.models.weights import Weights, load_strictly, read_official, require_official
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

Plain = dict[str, Any]


def new_spec(
    backbone: Plain, head: Plain, class_names: tuple[str, ...], *, image_size: int, grayscale: bool, **contract: Any
) -> ModelSpec:
    """Describe a new model.

    Args:
        backbone: Configuration of `conf/backbone/`.
        head: Configuration of `conf/head/`.
        class_names: Classes in the order of the logits.
        image_size: Size of the images in pixels.
        grayscale: Whether all images are gray, unless the backbone says.
        **contract: The remaining fields of `ModelSpec`.

    Raises:
        ConfigError: If the head or the network is not registered, an argument of theirs is no plain value, or they are
            too large.
    """
    check_target(head)
    known = backbone["grayscale"]
    description = {
        "backbone": _network(backbone),
        "head": head_arguments(head),
        "class_names": class_names,
        "image_size": image_size,
        "grayscale": grayscale if known is None else known,
        "crop": backbone["crop"],
        "normalize": backbone["normalize"],
        **contract,
    }
    return ModelSpec.from_dict(description, "this configuration")


def _network(config: Plain) -> Plain:
    """Return what describes the network of `conf/backbone/`: what it takes of the configuration."""
    network = config.get("architecture", EMONET)
    taken = arguments_of(backbone_class(network)) - {"n_expression"}
    described = {key: value for key, value in config.items() if key in ("name", *BACKBONE_SIZES) or key in taken}
    if network != EMONET:
        described["architecture"] = network
    limit = described.pop("mask_limit", None)
    if limit is not None:
        described["mask_limit"] = float(limit)
    return plain_arguments("backbone", described)


def official_spec(backbone: Plain, head: Plain, class_names: tuple[str, ...]) -> ModelSpec:
    """Describe the authors' model, which needs no training.

    Args:
        backbone: Configuration of official weights in `conf/backbone/`.
        head: Configuration of EmoNet's own head.
        class_names: Their classes in the order wanted.
    """
    return new_spec(
        backbone,
        {**head, "valence_arousal": True},
        class_names,
        image_size=backbone["image_size"],
        grayscale=False,
        outputs=("expression", "valence_arousal", "landmarks"),
        trained_on="AffectNet, by the authors of EmoNet",
        precision="auto",
        origin=find_origin(backbone["weights"]),
    )


def find_origin(location: str | None, start: Weights | None = None) -> Origin:
    """Return what a new model goes back to.

    Args:
        location: `backbone.weights`.
        start: What `starting_weights` read there.

    Raises:
        ConfigError: If official weights are missing.
    """
    if location is None:
        return Origin(DATA_TERMS)
    if start is None:
        path = Path(location)
        require_official(path)
        return official_origin(path.name, git_blob_id(path))
    latest = start.as_ancestor()
    before = start.spec.origin or Origin(start.spec.license)
    return replace(before, ancestors=(latest, *before.ancestors))


def continue_spec(spec: ModelSpec, start: ModelSpec, config: Plain) -> ModelSpec:
    """Take the architecture and the input contract of the weights that a new model starts from.

    Args:
        spec: The new model.
        start: The model of the weights.
        config: Configuration of `conf/backbone/`; `grayscale` and `normalize` set there count.
    """
    return replace(
        spec,
        backbone={**start.backbone, "name": spec.backbone["name"]},
        crop=start.crop,
        grayscale=start.grayscale if config["grayscale"] is None else spec.grayscale,
        normalize=start.normalize if config["normalize"] is None else spec.normalize,
    )


def build_model(spec: ModelSpec, config: Plain, start: Weights | None = None, **options: Any) -> ExpressionClassifier:
    """Build a model, starting from `backbone.weights` if it is set.

    Args:
        spec: What the model is.
        config: Configuration of `conf/backbone/`.
        start: Weights of ours to start from, which `spec` continues.
        **options: Further arguments of `ExpressionClassifier`.

    Raises:
        ConfigError: If the weights are missing or do not fit.
    """
    head = spec.build_head()
    if start is not None:
        backbone = _ours(start, spec, head)
        _start_head(head, spec, start)
    elif config["weights"] is not None:
        backbone = _official(spec, config, head)
    else:
        backbone = spec.build_backbone()
    options.setdefault("freeze", config["freeze"])
    return ExpressionClassifier(spec, backbone, head, lr_multiplier=config["lr_multiplier"], **options)


def _official(spec: ModelSpec, config: Plain, head: Head) -> EmoNet:
    """Load the authors' weights; EmoNet's own head takes its part of them, class by class."""
    path, names = Path(config["weights"]), tuple(config["class_names"] or ())
    state = read_official(path, config["blob_id"])
    if not names:
        raise ConfigError(f"backbone.weights={path} needs backbone.class_names, in the order of its outputs.")
    backbone = spec.build_backbone(n_expression=len(names))
    load_strictly(backbone, state, path)
    if isinstance(head, EmoNetHead):
        _copy_classifier(backbone.emo_fc_2, head, names, spec.class_names)
    del backbone.emo_fc_2
    return backbone


def _ours(weights: Weights, spec: ModelSpec, head: Head) -> EmoNet:
    backbone = spec.build_backbone()
    backbone.prune(head.tap)
    wanted = backbone.state_dict().keys()
    prefix = "backbone."
    state = {k.removeprefix(prefix): v for k, v in weights.state.items() if k.startswith(prefix)}
    missing = [key for key in wanted if key not in state]
    if missing:
        raise ConfigError(
            f"backbone.weights={weights.path} was trained at head.tap={weights.spec.head['tap']} and has no "
            f"{missing[0]}, which head.tap={head.tap} needs; choose head.tap={weights.spec.head['tap']}."
        )
    load_strictly(backbone, {key: state[key] for key in wanted}, weights.path)
    if "landmarks" in set(spec.outputs) - set(weights.spec.outputs):
        start_heatmaps(backbone)
    return backbone


def _start_head(head: Head, spec: ModelSpec, start: Weights) -> None:
    """Let a head of the same kind start from the weights, too; EmoNet's own head even for other classes."""
    theirs = start.spec
    if (theirs.head["name"], theirs.head["tap"]) != (spec.head["name"], spec.head["tap"]):
        return
    prefix = "head."
    state = {key.removeprefix(prefix): value for key, value in start.state.items() if key.startswith(prefix)}
    same = (theirs.class_names, theirs.vocabularies) == (spec.class_names, spec.vocabularies)
    if same and theirs.head == spec.head:
        load_strictly(head, state, start.path)
    elif isinstance(head, EmoNetHead):
        source = cast(EmoNetHead, theirs.build_head())
        load_strictly(source, state, start.path)
        rows = _matching_rows(theirs.with_vocabulary(None, spec.class_names), spec)
        for name, classes in spec.vocabularies.items():
            if name in theirs.vocabularies and classes != spec.class_names:
                rows |= _matching_rows(theirs.with_vocabulary(name), spec.with_vocabulary(name))
        if head.valence_arousal and source.valence_arousal:
            rows |= {head.n_classes + i: source.n_classes + i for i in range(2)}
        _copy_rows(source.fc, head, rows)
    else:
        return
    log.info("The head starts from %s, too.", start.path)


def _matching_rows(theirs: ModelSpec, ours: ModelSpec) -> dict[int, int]:
    """Return the head's outputs of the chosen classes that both have: ours -> theirs."""
    first, own, names = theirs.columns().start, ours.columns().start, theirs.class_names
    return {own + index: first + names.index(name) for index, name in enumerate(ours.class_names) if name in names}


def _copy_classifier(source: nn.Sequential, head: EmoNetHead, names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Copy the published classifier; classes that it lacks keep fresh weights."""
    rows = {wanted.index(name): names.index(name) for name in wanted if name in names}
    if head.valence_arousal:
        rows |= {len(wanted): len(names), len(wanted) + 1: len(names) + 1}
    _copy_rows(source, head, rows)


def _copy_rows(source: nn.Sequential, head: EmoNetHead, rows: dict[int, int]) -> None:
    """Copy the hidden layer, and some outputs of the last one: `rows` maps ours to theirs."""
    head.fc[0].load_state_dict(source[0].state_dict())
    head.fc[1].load_state_dict(source[1].state_dict())
    with torch.no_grad():
        for to, of in rows.items():
            for ours, theirs in zip(head.fc[3].parameters(), source[3].parameters(), strict=True):
                cast(Tensor, ours)[to] = cast(Tensor, theirs)[of]
