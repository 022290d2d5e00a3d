"""FER2013 (Goodfellow et al., "Challenges in representation learning", ICONIP 2013), in Kaggle's CSV format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from src.data.datamodule import StoreDataModule
from src.data.datasets.fer2013_folder import fer2013_folder, is_fer2013_folder
from src.data.download.kaggle import KaggleCompetition, KaggleDataset
from src.data.download.sources import Application, Download
from src.data.readers.archives import open_table
from src.data.readers.images import MAX_SIDE
from src.data.store.packed_store import Record, Skipped, Split
from src.data.vocabulary import canonical_order
from src.utils.errors import ConfigError

IMAGE_SIZE = 48
COLUMNS = ("emotion", "pixels", "Usage")
# Kaggle's label ids, in their order.
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# The competition's own split: PublicTest selects, PrivateTest reports.
SPLIT_OF: dict[str, Split] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
EXPECTED = "Kaggle's fer2013.csv (columns emotion,pixels,Usage), or the .tar.gz, .zip or folder that holds it"

# The competition's own file: lossless, and in the order of rows that FER+ counts by.
COMPETITION = KaggleCompetition(
    "competition", "challenges-in-representation-learning-facial-expression-recognition-challenge", "fer2013.tar.gz"
)
DOWNLOAD = Download(
    title="FER2013",
    folder="fer2013",
    citation=(
        'I. J. Goodfellow et al., "Challenges in representation learning: a report on three machine learning '
        'contests", ICONIP 2013.'
    ),
    terms="For research. The rules of Kaggle's competition hold; the images were found on the web.",
    content=EXPECTED,
    sources=(COMPETITION, KaggleDataset("folders", "msambare/fer2013")),
)


class Fer2013DataModule(StoreDataModule):
    """FER2013: 35,887 gray faces of 48 x 48 pixels in seven classes; 28,709 / 3,589 / 3,589."""

    labels: ClassVar[tuple[str, ...]] = LABELS
    classes = canonical_order(LABELS)
    raw_name = "fer2013"
    downloads: tuple[Download, ...] = (DOWNLOAD,)
    source_hint = f"{EXPECTED}; or Kaggle's folders train/<class>/Training_*.jpg and test/<class>/*Test_*.jpg"

    def store_options(self) -> dict[str, Any]:
        """Return what the folder variant's images depend on."""
        return {"max_side": MAX_SIDE}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the rows of the CSV in its order, with the row number, from 0, as id; or the images of the folders.

        Raises:
            ConfigError: If the file is not FER2013's CSV or a row of it is broken.
        """
        path = self.source()
        if is_fer2013_folder(path):
            yield from fer2013_folder(path, self.labels)
            return
        with open_table(path, "data.path", EXPECTED, COLUMNS) as rows:
            columns = [name.strip() for name in next(rows, [])]
            if not set(COLUMNS) <= set(columns):
                found = ",".join(columns)[:80] or "nothing"
                raise ConfigError(f"data.path={path} has the columns {found!r}; expected {EXPECTED}.")
            emotion, pixels, usage = (columns.index(name) for name in COLUMNS)
            for number, row in enumerate(rows):
                if len(row) != len(columns):
                    raise _broken_row(path, number, f"{len(row)} fields", f"{len(columns)}")
                yield Record(
                    id=str(number),
                    split=_split(path, number, row[usage].strip()),
                    label=_label(path, number, row[emotion].strip(), self.labels),
                    image=_image(path, number, row[pixels]),
                )


class CkPlusDataModule(Fer2013DataModule):
    """CK+ (Lucey et al., CVPR Workshops 2010) as Kaggle has it in FER2013's layout: 920 faces in eight classes.

    The table does not tell the subjects, so people of its training split are in the others, too.
    """

    labels = (*LABELS, "contempt")
    classes = canonical_order(labels)
    raw_name = "ckplus"
    source_hint = "CK+ in FER2013's layout, such as Kaggle's ckextended.csv (labels 0 to 7)"
    downloads = (
        Download(
            title="CK+",
            folder="ckplus",
            citation=(
                'P. Lucey et al., "The extended Cohn-Kanade dataset (CK+): a complete dataset for action unit and '
                'emotion-specified expression", CVPR Workshops 2010.'
            ),
            terms="For research, by agreement with its authors; not for commercial use.",
            content=source_hint,
            sources=(
                Application("application", "https://www.jeffcohn.net/Resources/", "Faculty and researchers may apply."),
            ),
        ),
    )


def _split(path: Path, number: int, usage: str) -> Split:
    if usage not in SPLIT_OF:
        raise _broken_row(path, number, f"Usage {usage!r}", " or ".join(SPLIT_OF))
    return SPLIT_OF[usage]


def _label(path: Path, number: int, emotion: str, labels: Sequence[str]) -> str:
    if not (emotion.isdecimal() and int(emotion) < len(labels)):
        raise _broken_row(path, number, f"the label {emotion!r}", f"a number from 0 to {len(labels) - 1}")
    return labels[int(emotion)]


def _image(path: Path, number: int, pixels: str) -> NDArray[np.uint8]:
    if pixels.encode().translate(None, b"0123456789 "):
        raise _broken_row(
            path, number, "pixels that are not numbers", f"{IMAGE_SIZE * IMAGE_SIZE} numbers from 0 to 255"
        )
    values = np.fromstring(pixels, dtype=np.int64, sep=" ")
    if values.size != IMAGE_SIZE * IMAGE_SIZE:
        raise _broken_row(path, number, f"{values.size} pixels", f"{IMAGE_SIZE * IMAGE_SIZE}")
    if values.max() > 255:
        raise _broken_row(path, number, f"the pixel value {values.max()}", "values from 0 to 255")
    return values.astype(np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)


def _broken_row(path: Path, number: int, found: str, expected: str) -> ConfigError:
    return ConfigError(
        f"data.path={path}: row {number} (line {number + 2}) has {found}; expected {expected}. "
        "Repair the file or download it again."
    )
