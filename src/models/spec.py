"""What a model is, in names and numbers: enough to rebuild it without running anything found in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from hydra.utils import get_class

from src.models.emonet import EmoNet, tap_side
from src.models.heads.base import Head
from src.utils.errors import ConfigError
from src.utils.groups import load_group

BACKBONE_KEYS = ("name", "width", "n_hourglass", "n_blocks")
Plain = dict[str, Any]


@dataclass(frozen=True)
class ModelSpec:
    """Architecture, vocabulary and input contract of a model.

    Attributes:
        backbone: `name`, `width`, `n_hourglass` and `n_blocks` of the EmoNet.
        head: `name` (a file of `conf/head/`), `tap` and the head's own arguments.
        class_names: Classes in the order of the logits.
        image_size: Native side of the pictures in pixels.
        grayscale: Whether the model expects pictures without colours (still three channels).
        crop: What of a face the pictures show, in words.
        outputs: Trained outputs, of `expression`, `valence_arousal`, `landmarks`; others must not be shown.
        trained_on: Data set, with its fingerprint, that the classes were trained on.
        precision: Lightning's name of the numeric precision of the training.
    """

    backbone: Plain
    head: Plain
    class_names: tuple[str, ...]
    image_size: int
    grayscale: bool
    crop: str
    outputs: tuple[str, ...]
    trained_on: str
    precision: str

    def to_dict(self) -> Plain:
        """Return plain lists, dictionaries, names and numbers."""
        return {**asdict(self), "class_names": list(self.class_names), "outputs": list(self.outputs)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ModelSpec:
        """Return the spec of a checkpoint.

        Raises:
            ConfigError: If entries are missing or of the wrong kind.
        """
        try:
            return ModelSpec(
                backbone={key: data["backbone"][key] for key in BACKBONE_KEYS},
                head={str(key): _plain(key, value) for key, value in data["head"].items()},
                class_names=tuple(str(name) for name in data["class_names"]),
                image_size=int(data["image_size"]),
                grayscale=bool(data["grayscale"]),
                crop=str(data["crop"]),
                outputs=tuple(str(name) for name in data["outputs"]),
                trained_on=str(data["trained_on"]),
                precision=str(data["precision"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"the model description in the checkpoint is broken ({error!r}).") from error

    def build_backbone(self, *, n_expression: int | None = None) -> EmoNet:
        """Return a fresh backbone, whole; `n_expression` adds EmoNet's own classifier."""
        sizes = {key: int(self.backbone[key]) for key in BACKBONE_KEYS if key != "name"}
        return EmoNet(n_expression, **sizes)

    def build_head(self) -> Head:
        """Return a fresh head for the backbone's features.

        Raises:
            ConfigError: If the head is unknown or cannot read the tap.
        """
        own = load_group("head", str(self.head["name"]))
        for key in own:
            if key in self.head and key not in ("_target_", "defaults"):
                own[key] = self.head[key]
        own.pop("name", None)
        own.pop("defaults", None)
        head = get_class(own.pop("_target_"))
        side = tap_side(own["tap"], self.image_size, int(self.backbone["n_blocks"]))
        # Not instantiate: it would run a _target_, and resolve an interpolation, found in a value.
        return cast(Head, head(channels=int(self.backbone["width"]), side=side, n_classes=len(self.class_names), **own))


def _plain(key: str, value: Any) -> Any:
    """Return an argument of a head: a number or a switch; `name` and `tap` are words."""
    wanted = str if key in ("name", "tap") else int | float
    if not isinstance(value, wanted):
        raise TypeError(f"head.{key}={value!r}")
    return value
