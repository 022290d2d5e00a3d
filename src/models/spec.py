"""What a model is, in names and numbers: enough to rebuild it without running anything found in a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, NotRequired, cast

from annotated_types import Len
from pydantic import AfterValidator, ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from src.models.arguments import Blocks, Scale, Width, check_arguments, defaults_of, plain_arguments
from src.models.crops import crop_name
from src.models.emonet import STEM_STRIDE, EmoNet, tap_side
from src.models.heads.base import Head
from src.models.origin import NO_DERIVATIVES, OFFICIAL_BACKBONES, RESEARCH, Origin, describe_terms
from src.models.registry import backbone_class, has_head, head_class
from src.utils.errors import ConfigError
from src.utils.schemas import checked
from src.utils.validation import ImageSize, Positive

BACKBONE_SIZES = ("width", "n_hourglass", "n_blocks")
# A description of a few bytes could ask for any memory. Four times the published network's: numbers of its
# convolutions' weights (channels squared, times stacked parts), and of its largest map.
MAX_WEIGHTS = 4 * 256**2 * 3
MAX_MAP = 4 * 256 * 64**2
MAX_CLASSES = 1000
# Of the published network, and of weights described before these existed: no limit, and a scale of 1.
BACKBONE_RANGE = ("mask_limit", "feature_scale")
# Name of the classification of a model that has one.
ONLY_VOCABULARY = "expression"
# Keys of a head's configuration that are no arguments, beside those of Hydra such as _target_.
NOT_ARGUMENTS = ("defaults", "vocabulary")
# The network of weights that name none.
EMONET = "emonet"
# The images that every model of this framework is given.
VALUE_RANGE = (0.0, 1.0)
Plain = dict[str, Any]
Names = Annotated[tuple[str, ...], Len(1, MAX_CLASSES)]


@with_config(ConfigDict(extra="allow"))
class Network(TypedDict):
    """What describes a network, beside the arguments of one's own."""

    name: str
    width: Width
    n_hourglass: Positive
    n_blocks: Blocks
    architecture: NotRequired[str]
    mask_limit: NotRequired[Scale | None]
    feature_scale: NotRequired[Scale | None]


@with_config(ConfigDict(extra="allow"))
class Reader(TypedDict):
    """What describes a head, beside its own arguments."""

    name: str
    tap: str


def _backbone(given: Plain) -> Plain:
    known = cast(Plain, checked(Network, plain_arguments("backbone", given), "backbone", ""))
    if known["width"] ** 2 * (1 + known["n_hourglass"]) > MAX_WEIGHTS:
        raise ValueError(f"width={known['width']} and n_hourglass={known['n_hourglass']} are too large for any memory")
    # Of the range, what is not limited is not mentioned.
    return {key: value for key, value in known.items() if key not in BACKBONE_RANGE or value is not None}


def _head(given: Plain) -> Plain:
    return cast(Plain, checked(Reader, head_arguments(given), "head", ""))


@dataclass(frozen=True)
class ModelSpec:
    """Architecture, vocabulary and input contract of a model.

    Attributes:
        backbone: `name`, `width`, `n_hourglass` and `n_blocks` of the EmoNet; `mask_limit` and `feature_scale` if they
            are not those of the published network; for a network of one's own, its registered name, `architecture`,
            and its own arguments.
        head: `name` (as it is registered), `tap` and the head's own arguments.
        class_names: Classes in the order of the logits.
        vocabularies: Names and classes of all classifications of a model that has several, in the order of the head's
            outputs; `class_names` are those of one of them. Empty for a model with one.
        image_size: Native side of the images in pixels.
        grayscale: Whether the model expects images without colors (still three channels).
        crop: What of a face the images show: a name of `src.models.crops.CROPS`.
        outputs: Trained outputs, of `expression`, `valence_arousal`, `landmarks`; others must not be shown.
        derived: Those of them whose targets nobody annotated: they were computed from other annotations.
        trained_on: Data set, with its fingerprint, that the classes were trained on.
        precision: Lightning's name of the numeric precision of the training.
        normalize: What the network does to images in [0, 1] first: None for nothing, or `imagenet`.
        temperatures: By vocabulary (`expression` for a model with one), what the head's logits are divided by so that
            confidence and accuracy agree; 1 where it has no entry. See `src.metrics.calibration`.
        origin: Which weights it started and learned from; None for weights described before this existed.
    """

    backbone: Annotated[Plain, AfterValidator(_backbone)]
    head: Annotated[Plain, AfterValidator(_head)]
    class_names: Names
    image_size: ImageSize
    grayscale: bool
    crop: Annotated[str, AfterValidator(crop_name)]
    outputs: tuple[str, ...]
    trained_on: str
    precision: str
    # Weights written before the following existed have none of them.
    vocabularies: dict[str, Names] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    normalize: str | None = None
    temperatures: dict[str, Scale] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def n_logits(self) -> int:
        """Number of logits of all classifications."""
        return sum(map(len, self.vocabularies.values())) or len(self.class_names)

    @property
    def temperature(self) -> float:
        """What the logits of `class_names` are divided by."""
        own = [name for name, names in self.vocabularies.items() if names == self.class_names]
        return self.temperatures.get(own[0] if own else ONLY_VOCABULARY, 1.0)

    @property
    def license(self) -> str:
        """Key of `src.models.origin.LICENSES`; without an origin, what the backbone's name tells."""
        if self.origin is not None:
            return self.origin.license
        return NO_DERIVATIVES if self.backbone["name"] in OFFICIAL_BACKBONES else RESEARCH

    @property
    def terms(self) -> str:
        """Under which terms the weights may be used, and what they go back to, in words."""
        return describe_terms(self.license, self.trained_on, self.origin)

    @property
    def second_vocabulary(self) -> str | None:
        """Name of the classification that `class_names` are not those of; None for a model with one."""
        own = self.columns()
        return next((name for name in self.vocabularies if self.columns(name) != own), None)

    def columns(self, name: str | None = None) -> slice:
        """Return where the logits of a vocabulary are among the head's outputs; None means those of `class_names`."""
        start = 0
        for other, names in self.vocabularies.items():
            if other == name or (name is None and names == self.class_names):
                return slice(start, start + len(names))
            start += len(names)
        return slice(0, len(self.class_names))

    def with_vocabulary(self, name: str | None, classes: Collection[str] = ()) -> ModelSpec:
        """Return the same model with the classification chosen that it is used for.

        Args:
            name: A vocabulary; None for that with most of the `classes`, the smaller one of those with as many.
            classes: Classes of the data.

        Raises:
            ConfigError: If the model has no such vocabulary.
        """
        if name is None and self.vocabularies:
            known = self.vocabularies
            name = max(known, key=lambda key: (len(set(known[key]) & set(classes)), -len(known[key])))
        if name is None:
            return self
        if name not in self.vocabularies:
            raise ConfigError(
                f"head.vocabulary={name}, but the weights have "
                f"{', '.join(self.vocabularies) or 'a single vocabulary'}; choose one of these, or leave it out."
            )
        return replace(self, class_names=self.vocabularies[name])

    def with_range(self, other: ModelSpec) -> ModelSpec:
        """Return the same model with the range of another one's features: its `mask_limit` and `feature_scale`."""
        sizes = {key: value for key, value in self.backbone.items() if key not in BACKBONE_RANGE}
        ranges = {key: value for key, value in other.backbone.items() if key in BACKBONE_RANGE}
        return replace(self, backbone=sizes | ranges)

    def to_dict(self) -> Plain:
        """Return plain lists, dictionaries, names and numbers."""
        vocabularies = {name: list(classes) for name, classes in self.vocabularies.items()}
        names = {"class_names": list(self.class_names), "outputs": list(self.outputs), "vocabularies": vocabularies}
        origin = None if self.origin is None else self.origin.to_dict()
        lists = {**names, "derived": list(self.derived), "value_range": list(VALUE_RANGE)}
        return {**asdict(self), **lists, "origin": origin}

    @staticmethod
    def from_dict(data: object, source: object = "these weights") -> ModelSpec:
        """Return the spec in a file.

        Args:
            data: What the file holds.
            source: The file, for the message.

        Raises:
            ConfigError: If entries are missing, of the wrong kind, or larger than any memory.
        """
        name, remedy = f"the model description of {source}", "Use other weights, or a smaller model."
        spec = checked(ModelSpec, data, name, remedy)
        map_size = spec.backbone["width"] * (spec.image_size // STEM_STRIDE) ** 2
        if map_size > MAX_MAP:
            raise ConfigError(f"{name} asks for maps of {map_size:,} numbers; expected at most {MAX_MAP:,}. {remedy}")
        return spec

    def build_backbone(self, *, n_expression: int | None = None) -> EmoNet:
        """Return a fresh backbone, whole; `n_expression` adds EmoNet's own classifier.

        Raises:
            ConfigError: If the network is unknown, or does not take the arguments.
        """
        network = backbone_class(self.backbone.get("architecture", EMONET))
        own = {key: value for key, value in self.backbone.items() if key not in ("name", "architecture")}
        check_arguments("backbone", network, own, ("n_expression",))
        backbone = cast(EmoNet, _built("backbone", network, {"n_expression": n_expression, **own}))
        if self.normalize is not None:
            backbone.normalize_images(self.normalize)
        return backbone

    def build_head(self) -> Head:
        """Return a fresh head for the backbone's features.

        Raises:
            ConfigError: If the head is unknown, does not take the arguments, or cannot read the tap.
        """
        head = cast(Any, head_class(self.head["name"]))
        own = {key: value for key, value in head_arguments(self.head).items() if key != "name"}
        side = tap_side(own["tap"], self.image_size, int(self.backbone["n_blocks"]))
        sizes = {"channels": int(self.backbone["width"]), "side": side, "n_classes": self.n_logits}
        check_arguments("head", head, own, sizes)
        # Not instantiate: it would run a _target_, and resolve an interpolation, found in a value.
        return cast(Head, _built("head", head, {**own, **sizes}))


def _built(group: str, kind: Any, arguments: Plain) -> Any:
    """Return an object of a class, given arguments that may be of any kind.

    Raises:
        ConfigError: If the class can do nothing with them.
    """
    try:
        return kind(**arguments)
    except ConfigError:
        raise
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        given = ", ".join(f"{group}.{key}={value}" for key, value in arguments.items())
        raise ConfigError(
            f"{kind.__name__} cannot be built from {given} ({error}). Use other weights, or other values."
        ) from error


def head_arguments(config: Mapping[str, Any]) -> Plain:
    """Return what describes a head: its name, its tap and all of its own arguments.

    Args:
        config: Configuration of a head, or its description in weights.

    Raises:
        ConfigError: If an argument is no plain value.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_ARGUMENTS and not str(key).startswith("_")}
    if has_head(str(config.get("name"))):
        # Those that are not given count, too: weights of before an argument existed have the head of its default.
        kept = {**defaults_of(head_class(str(config["name"]))), **kept}
    return plain_arguments("head", kept)
