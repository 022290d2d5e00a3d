"""Which weights a model started from, and the terms of use that follow from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator

# No terms but those of the data; research use; what the authors of EmoNet allow.
DATA_TERMS, RESEARCH, NO_DERIVATIVES = "data", "research", "CC-BY-NC-ND-4.0"
# From the least to the most restrictive, each with its rule.
LICENSES = {
    DATA_TERMS: (
        "No terms of their own: those of the data apply that these weights, and those they started or learned from, "
        "were trained on."
    ),
    RESEARCH: (
        "Research use: the terms of the data apply that these weights, and those they started or learned from, were "
        "trained on."
    ),
    NO_DERIVATIVES: (
        "CC BY-NC-ND 4.0: these weights are, started or learned from those of EmoNet's authors "
        "(https://github.com/face-analysis/emonet), not to be passed on in another form."
    ),
}
# Git blob ids of the files in `pretrained/` of github.com/face-analysis/emonet.
OFFICIAL_FILES = {
    "61358cb3ea0fe410c01ee4ffff5ed1b49713af98": "emonet_5.pth",
    "6833bfdcf8fc761deb7630256a750cf1f7c850c1": "emonet_8.pth",
}
OFFICIAL_BACKBONES = ("emonet_5", "emonet_8")


def _known(license: str) -> str:
    if license not in LICENSES:
        raise ValueError(f"expected one of {', '.join(LICENSES)}")
    return license


@dataclass(frozen=True)
class Ancestor:
    """Weights that others started, or learned, from.

    Attributes:
        name: Their file's name, without its place; that of the published file for official weights.
        blob_id: Git blob id of the file.
        trained_on: Data set, with its fingerprint.
    """

    name: str
    blob_id: str
    trained_on: str


@dataclass(frozen=True)
class Origin:
    """What a model's weights go back to.

    Attributes:
        license: Key of `LICENSES`: the most restrictive one of the chain.
        ancestors: The weights it started from, the latest first; empty for a model from scratch.
        teachers: The weights whose predictions it, or one of its ancestors, was trained on.
    """

    license: Annotated[str, AfterValidator(_known)]
    ancestors: tuple[Ancestor, ...] = ()
    teachers: tuple[Ancestor, ...] = ()

    def at_least(self, license: str) -> Origin:
        """Return the same origin under this license, unless its own is more restrictive."""
        return replace(self, license=max(self.license, license, key=list(LICENSES).index))

    def taught_by(self, teacher: Ancestor, license: str) -> Origin:
        """Return the origin of a model that learns from a teacher under this license, too."""
        return replace(self.at_least(license), teachers=tuple(dict.fromkeys([*self.teachers, teacher])))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dictionaries and names."""
        chain = {"ancestors": self.ancestors, "teachers": self.teachers}
        return {"license": self.license, **{key: [asdict(weights) for weights in chain[key]] for key in chain}}


def official_origin(name: str, blob_id: str) -> Origin:
    """Return the origin of a model that starts from a file in the format of EmoNet's authors.

    Whoever changes a byte of a published file does not get rid of its license: all files of this format are taken for
    theirs.

    Args:
        name: The file's name.
        blob_id: Its git blob id, which tells the published files whatever their name.
    """
    published = OFFICIAL_FILES.get(blob_id)
    if published:
        ancestor = Ancestor(f"{published} of EmoNet's authors", blob_id, "AffectNet")
    else:
        ancestor = Ancestor(f"{name}, taken for a file of EmoNet's authors by its format", blob_id, "unknown data")
    return Origin(NO_DERIVATIVES, (ancestor,))


def describe_terms(license: str, trained_on: str, origin: Origin | None) -> str:
    """Return under which terms weights may be used, and what they go back to, in words.

    Args:
        license: Key of `LICENSES`.
        trained_on: Data set that they were trained on last.
        origin: What they go back to, if that is known.
    """
    parts = [LICENSES[license], f"Trained on: {trained_on}."]
    if origin and origin.ancestors:
        parts.append(f"Started from: {_list(origin.ancestors)}.")
    if origin and origin.teachers:
        parts.append(f"Learned from the predictions of: {_list(origin.teachers)}.")
    return " ".join([*parts, "Not to be used to judge people."])


def _list(weights: tuple[Ancestor, ...]) -> str:
    return "; ".join(f"{w.name} (git blob id {w.blob_id}, trained on {w.trained_on})" for w in weights)
