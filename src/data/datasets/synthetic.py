"""Synthetic faces: the data set that needs no download."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.data import faces
from src.data.datamodule import StoreDataModule
from src.data.faces.actions import EXPRESSIONS
from src.data.faces.generator import draw_face
from src.data.store.packed_store import SPLITS, Record, Skipped


class SyntheticDataModule(StoreDataModule):
    """Procedural expressive faces in seven classes, with valence, arousal and landmarks, of any size and number."""

    classes = EXPRESSIONS
    source_hint = "no path: its faces are synthetic"
    generated = True
    shows_people = False

    def __init__(
        self, *, n_train: int, n_val: int, n_test: int, draw_size: int, draw_seed: int, draw_gray: bool, **common: Any
    ) -> None:
        """Store the options; `conf/data/synthetic.yaml` documents them.

        Args:
            n_train: Number of training faces.
            n_val: Number of validation faces.
            n_test: Number of test faces.
            draw_size: Size of the synthetic images in pixels.
            draw_seed: Seed of the synthetic faces, independent of the run's.
            draw_gray: Whether the faces are gray.
            **common: Arguments of `StoreDataModule`.
        """
        super().__init__(**common)
        self.counts = (n_train, n_val, n_test)
        self.draw_size, self.draw_seed, self.draw_gray = draw_size, draw_seed, draw_gray

    def store_options(self) -> dict[str, Any]:
        """Return everything that determines the faces."""
        return {
            "counts": self.counts,
            "size": self.draw_size,
            "seed": self.draw_seed,
            "gray": self.draw_gray,
            "drawing": _generator_version(),
        }

    def records(self) -> Iterator[Record | Skipped]:
        """Generate the faces; the id is the index that `draw_face` takes."""
        index = 0
        for split, count in zip(SPLITS, self.counts, strict=True):
            for _ in range(count):
                face = draw_face(self.draw_seed, index, self.draw_size, grayscale=self.draw_gray)
                yield Record(
                    id=str(index),
                    split=split,
                    label=face.expression,
                    image=face.image[..., 0] if self.draw_gray else face.image,
                    valence=face.valence,
                    arousal=face.arousal,
                    landmarks=face.landmarks,
                )
                index += 1


def _generator_version() -> str:
    """Hash the code of the generator, so that a change of it never meets faces generated before."""
    files = (Path(__file__), *sorted(Path(str(faces.__file__)).parent.glob("*.py")))
    code = b"".join(path.read_bytes() for path in files)
    return hashlib.blake2b(code, digest_size=8).hexdigest()
