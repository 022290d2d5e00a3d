"""AffectNet (Mollahosseini, Hasani and Mahoor, IEEE Transactions on Affective Computing 10(1), 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.datamodule import StoreDataModule
from src.data.datasets.affectnet_releases import RELEASES, Annotation, Box
from src.data.download.sources import Application, Download
from src.data.readers.class_folders import PRIORITY
from src.data.readers.images import MAX_SIDE, UnreadableImage, decode_image, shrink
from src.data.readers.splits import complete_splits, validation_fractions
from src.data.store.packed_store import Record, Skipped, Split
from src.data.vocabulary import CANONICAL
from src.utils.errors import ConfigError

# AffectNet's numbers: the first eight are the canonical order, the rest is no expression.
LABELS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
NO_EXPRESSION = ("none", "uncertain", "no face")
# EmoNet's cleaning: the valence v, arousal a and intensity i = sqrt(v^2 + a^2) that fit an expression
# (github.com/face-analysis/emonet, emonet/data/affecnet.py).
FITTING: dict[str, Callable[[float, float, float], bool]] = {
    "neutral": lambda v, a, i: i < 0.2,
    "happy": lambda v, a, i: v > 0 and i > 0.2,
    "sad": lambda v, a, i: v < 0 and i > 0.2,
    "surprise": lambda v, a, i: a > 0 and i > 0.2,
    "fear": lambda v, a, i: a >= 0 and v <= 0 and i > 0.2,
    "disgust": lambda v, a, i: v < 0 and i > 0.3,
    "angry": lambda v, a, i: a > 0 and i > 0.2,
    "contempt": lambda v, a, i: v < 0 and i > 0.2,
}
# A face box larger than this many times the image is a mistake, and would need gigabytes of padding.
MAX_PADDING = 4


class AffectNetDataModule(StoreDataModule):
    """AffectNet: faces of the web in eight classes, with valence and arousal.

    A. Mollahosseini, B. Hasani and M. H. Mahoor, "AffectNet: a database for facial expression, valence, and arousal
    computing in the wild", IEEE Transactions on Affective Computing 10(1), 2019.

    AffectNet has no public test set: its validation set (500 images a class; 3,999 in the 8-label release) is the
    test split, and a seeded fraction of training, stratified by class, is the validation split.

    Labels 8 to 10 (none, uncertain, no face) are left out, and with `cleaned`, so are images whose valence and
    arousal do not fit their expression, by the rules of EmoNet's authors; `left_out` counts them. Faces are cut out by
    the face box of the CSV; what lies outside the image is black. The id of an image is its path in the release. The
    pickles of EmoNet's authors are not read: whoever made one could have any memory and time taken.
    """

    classes = CANONICAL
    source_hint = (
        "AffectNet's folder with Manually_Annotated_file_lists/ and the images (first release), or with train_set/ and "
        "val_set/, each with annotations/ and images/ (8-label release)"
    )
    downloads = (
        Download(
            title="AffectNet",
            folder="affectnet",
            citation=(
                'A. Mollahosseini, B. Hasani and M. H. Mahoor, "AffectNet: a database for facial expression, valence, '
                'and arousal computing in the wild", IEEE Transactions on Affective Computing 10(1), 2019.'
            ),
            terms="For research, by agreement with its authors; not to be passed on.",
            content=source_hint,
            sources=(
                Application(
                    name="application",
                    apply_at="https://mohammadmahoor.com/pages/databases/affectnet/",
                    terms="The form there says who may apply.",
                ),
            ),
        ),
    )

    def __init__(self, *, release: str, cleaned: bool, val_share: float, split_seed: int, **common: Any) -> None:
        """Store the options; `conf/data/affectnet.yaml` documents them.

        Args:
            release: `auto`, `csv` or `annotations`.
            cleaned: Whether to keep only images whose annotations agree.
            val_share: Fraction of training that becomes the validation split.
            split_seed: Seed of the draw, independent of the run's.
            **common: Arguments of `StoreDataModule`.
        """
        super().__init__(**common)
        self.release, self.cleaned = release, cleaned
        self.split_shares = validation_fractions(val_share)
        self.split_seed = split_seed

    def store_options(self) -> dict[str, Any]:
        """Return what is read, what is kept and how the validation split is drawn."""
        return {
            "max_side": MAX_SIDE,
            "release": self.release,
            "cleaned": self.cleaned,
            "split_shares": self.split_shares,
            "split_seed": self.split_seed,
        }

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images.

        Raises:
            ConfigError: If no release is there, more than one without a choice, or one is damaged.
        """
        chosen: dict[str, Annotation] = {}
        for item in self._annotations():
            if isinstance(item, Skipped):
                yield item
            elif not 0 <= item.expression < len(LABELS) + len(NO_EXPRESSION):
                yield Skipped(item.id, f"its expression is {item.expression}; expected 0 to 10")
            elif reason := self._why_left_out(item):
                self.left_out[reason] += 1
            elif item.id not in chosen:
                chosen[item.id] = item
            else:
                kept = min(chosen[item.id], item, key=lambda known: PRIORITY.index(known.split))
                chosen[item.id] = kept
                yield Skipped(item.id, f"listed more than once; it counts for {kept.split}")
        kept_items = list(chosen.values())
        splits = complete_splits(
            [item.id for item in kept_items],
            [LABELS[item.expression] for item in kept_items],
            [item.split for item in kept_items],
            self.split_shares,
            self.split_seed,
        )
        for item, split in zip(kept_items, splits, strict=True):
            yield _record(item, split)

    def _annotations(self) -> Iterator[Annotation | Skipped]:
        root = self.source()
        present = [name for name, (is_there, _) in RELEASES.items() if is_there(root)]
        if self.release != "auto":
            present = [name for name in present if name == self.release]
        if len(present) != 1:
            found = f"holds more than one form ({', '.join(present)}): set data.release" if present else "holds none"
            wanted = "" if self.release == "auto" else f" (data.release={self.release})"
            raise ConfigError(f"data.path={root} {found}{wanted}; expected {self.source_hint}.")
        self.left_out.clear()
        return RELEASES[present[0]][1](root)

    def _why_left_out(self, item: Annotation) -> str | None:
        if item.expression >= len(LABELS):
            return f"labeled {NO_EXPRESSION[item.expression - len(LABELS)]}"
        intensity = float(np.hypot(item.valence, item.arousal))
        # Missing values are NaN, which fits nothing.
        if self.cleaned and not FITTING[LABELS[item.expression]](item.valence, item.arousal, intensity):
            return "valence and arousal do not fit the expression"
        return None


def _record(item: Annotation, split: Split) -> Record | Skipped:
    try:
        # Boxes and landmarks count pixels as they are stored, whatever the EXIF orientation.
        image = decode_image(item.image, upright=False)
        origin = np.zeros(2)
        if item.box is not None:
            image, origin = _cut_out(image, item.box)
    except UnreadableImage as error:
        return Skipped(item.id, str(error))
    small = shrink(image)
    landmarks = None
    if item.landmarks is not None:
        # Pixel centers are at whole numbers, for the landmarks as for OpenCV's resize.
        scale = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
        landmarks = ((item.landmarks - origin + 0.5) * scale - 0.5).astype(np.float32)
    return Record(item.id, split, LABELS[item.expression], small, item.valence, item.arousal, landmarks)


def _cut_out(image: NDArray[np.uint8], box: Box) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut a box out of an image, black where it exceeds it.

    Args:
        image: (H, W) or (H, W, 3).
        box: Left, top, width and height in pixels.

    Returns:
        The cut-out and x and y of its top left pixel, (2,).

    Raises:
        UnreadableImage: If the box is empty, beside the image or absurdly large.
    """
    height, width = image.shape[:2]
    is_usable = np.isfinite(box).all() and max(box[2:]) <= MAX_PADDING * max(height, width)
    left, top, right, bottom = _corners(box) if is_usable else (0, 0, 0, 0)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x0 >= x1 or y0 >= y1:
        shown = ", ".join(f"{value:g}" for value in box)
        raise UnreadableImage(f"its face box (left, top, width, height: {shown}) does not fit {width} x {height}")
    cut = np.zeros((bottom - top, right - left, *image.shape[2:]), dtype=np.uint8)
    cut[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return cut, np.array([left, top], dtype=np.float64)


def _corners(box: Box) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in whole pixels; squares stay squares."""
    left, top = round(box[0]), round(box[1])
    return left, top, left + round(box[2]), top + round(box[3])
