"""RAF-DB's basic expressions (Li, Deng and Du, CVPR 2017; whdeng.cn/RAF/model1.html)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.download.sources import Application, Download
from src.data.readers.class_folders import Entry, data_root, draw_splits, list_entries, names_splits, read_entries
from src.data.readers.file_tree import Tree, open_tree
from src.data.readers.images import MAX_SIDE, UnreadableImage
from src.data.readers.splits import validation_fractions
from src.data.store.packed_store import Record, Skipped, Split
from src.data.vocabulary import canonical_order
from src.utils.errors import ConfigError

# RAF-DB's label numbers.
LABELS = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "angry", "7": "neutral"}
LIST = "EmoLabel/list_patition_label.txt"  # spelt so
IMAGES = "Image/aligned"
SPLIT_OF: dict[str, Split] = {"train": "train", "test": "test"}


class RafdbDataModule(StoreDataModule):
    """RAF-DB: 15,339 aligned faces of 100 x 100 pixels in seven classes; 12,271 for training, 3,068 for the test.

    S. Li, W. Deng and J. Du, "Reliable crowdsourcing and deep locality-preserving learning for expression recognition
    in the wild", CVPR 2017.

    There is no validation split: a seeded fraction of training, stratified by class, takes its part. The test set is
    the authors'. Two layouts are read: the authors' own, where a list names each image's label, and Kaggle's, with the
    folders 1 to 7 in train and test. The id of an image is its path below `basic`, or below the folder that holds
    train and test.
    """

    classes = canonical_order(tuple(LABELS.values()))
    source_hint = (
        f"RAF-DB's folder basic (or an archive of it) with {LIST} and {IMAGES}/train_00001_aligned.jpg, or Kaggle's "
        "folder with train/1 to train/7 and test/1 to test/7"
    )
    downloads = (
        Download(
            title="RAF-DB",
            folder="rafdb",
            citation=(
                'S. Li, W. Deng and J. Du, "Reliable crowdsourcing and deep locality-preserving learning for '
                'expression recognition in the wild", CVPR 2017.'
            ),
            terms="For non-commercial research; not to be passed on.",
            content=source_hint,
            sources=(
                Application(
                    "application", "http://www.whdeng.cn/RAF/model1.html", "Write from the address of an institution."
                ),
            ),
        ),
    )

    def __init__(self, *, val_share: float, split_seed: int, **common: Any) -> None:
        """Store the options; `conf/data/rafdb.yaml` documents them.

        Args:
            val_share: Fraction of training that becomes the validation split.
            split_seed: Seed of the draw, independent of the run's.
            **common: Arguments of `StoreDataModule`.
        """
        super().__init__(**common)
        self.split_shares = validation_fractions(val_share)
        self.split_seed = split_seed

    def store_options(self) -> dict[str, Any]:
        """Return the longest side stored and how the validation split is drawn."""
        return {"max_side": MAX_SIDE, "split_shares": self.split_shares, "split_seed": self.split_seed}

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the images.

        Raises:
            ConfigError: If neither layout is there, or the list is broken.
        """
        path = self.source()
        with open_tree(path, self.source_hint) as tree:
            tree = _without_compound(tree)
            if tree.topmost(_is_official):
                entries, skipped = _official(data_root(tree, path, _is_official, self.source_hint), path)
            else:
                entries, skipped = list_entries(data_root(tree, path, names_splits, self.source_hint), path, LABELS)
            yield from skipped
            yield from read_entries(draw_splits(entries, self.split_shares, self.split_seed))


def _is_official(names: Sequence[str]) -> bool:
    return {"EmoLabel", "Image"} <= set(names)


def _without_compound(tree: Tree) -> Tree:
    """Leave the compound expressions out, which lie beside the basic ones in the same layout."""
    files = [file for file in tree.files if "compound" not in file.parts]
    folders = {folder for folder in tree.folders if "compound" not in PurePosixPath(folder).parts}
    return replace(tree, files=files, folders=folders)


def _official(tree: Tree, path: Path) -> tuple[list[Entry], list[Skipped]]:
    """Return the images that the list names, in the tree's order, and those it lacks or that are missing."""
    labels = _labels(tree, path)
    entries: list[Entry] = []
    skipped = list(tree.skipped)
    for file in tree.files:
        if not file.path.startswith(f"{IMAGES}/"):
            continue
        name = PurePosixPath(file.path).name
        if name in labels:
            entries.append(Entry(file, labels.pop(name), SPLIT_OF[name.partition("_")[0]]))
        else:
            skipped.append(Skipped(file.path, f"not in {LIST}"))
    if not entries:
        raise ConfigError(
            f"data.path={path} holds none of the images that {LIST} names; expected "
            f"{IMAGES}/train_00001_aligned.jpg and so on. Unpack RAF-DB's aligned.zip there."
        )
    return entries, skipped + [Skipped(f"{IMAGES}/{name}", "missing") for name in labels]


def _labels(tree: Tree, path: Path) -> dict[str, str]:
    """Read the list: class names by the names of the aligned images."""
    file = next((file for file in tree.files if file.path == LIST), None)
    if file is None:
        raise ConfigError(f"data.path={path} lacks {LIST}, which names the labels; get it from RAF-DB's authors.")
    try:
        text = file.read().decode("utf-8", "replace")
    except UnreadableImage as error:
        raise ConfigError(f"data.path={path}: {LIST} {error}; get it again.") from None
    labels: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, label = line.strip().partition(" ")
        if not line.strip():
            continue
        if label not in LABELS or name.partition("_")[0] not in SPLIT_OF:
            raise ConfigError(
                f"data.path={path}: line {number} of {LIST} is {line[:60]!r}; expected a name and a label from 1 to 7, "
                "such as 'train_00001.jpg 5'. Get the list again."
            )
        labels[f"{PurePosixPath(name).stem}_aligned.jpg"] = LABELS[label]
    return labels
