"""Which square of a face a model sees: the crop part of the input contract, by name."""

from __future__ import annotations

from src.utils.errors import ConfigError

# What of a face the images of a crop show, by its name. `src.inference.crop` cuts them.
CROPS = {
    "fer2013": "square about the face, from the forehead to the chin, as FER2013's detector cut it",
    "expw": "square about the face with a little more of the hair, as ExpW's boxes are",
    "landmarks": "square of side (width + height) / 1.1 of the 68 landmarks' box, about its center",
}
DEFAULT_CROP = "fer2013"


def crop_name(given: str) -> str:
    """Return the name of a crop.

    Args:
        given: A name, or the words that weights and configurations had before there were names.

    Raises:
        ConfigError: If there is no such crop.
    """
    if given in CROPS:
        return given
    if " " in given:  # a sentence, of which one meant something else than a detector's box
        return "landmarks" if "landmarks' box" in given else DEFAULT_CROP
    raise ConfigError(
        f"backbone.crop={given}; expected one of {', '.join(CROPS)}: which square of a face the images show."
    )
