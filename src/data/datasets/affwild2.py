"""Aff-Wild2 (Kollias and Zafeiriou, BMVC 2019), with the annotations of its challenges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from src.data.datamodule import StoreDataModule
from src.data.datasets.affwild2_annotations import HINT, OTHER, Kind, Video, face_folders, read_annotations
from src.data.download.sources import Application, Download
from src.data.readers.file_tree import single_file
from src.data.readers.images import MAX_SIDE, UnreadableImage, read_image
from src.data.readers.splits import complete_splits, validation_fractions
from src.data.store.packed_store import Record, Skipped, Split
from src.utils.errors import ConfigError

# Of two people in a video, each has annotations and faces of their own: `<video>_left` and `<video>_right`.
SIDES = ("_left", "_right")


class AffWild2DataModule(StoreDataModule):
    """Aff-Wild2: cut and aligned faces of videos, with seven expressions, valence and arousal of each frame.

    D. Kollias and S. Zafeiriou, "Expression, affect, action unit recognition: Aff-Wild2, multi-task learning and
    ArcFace", British Machine Vision Conference, 2019. Its layout is that of the ABAW challenges: frame i is
    `cropped_aligned/<video>/<i in five digits>.jpg`, and line i of `<video>.txt`, below a header.

    The test set of the challenges has no public annotations: their validation set is the test split, and a seeded
    fraction of the videos of training is the validation split. Frames whose face was not found have no image; the
    class `Other` is none of ours; `left_out` counts both. The id of an image is `<video>/<file>`.
    """

    classes = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
    source_hint = HINT
    downloads = (
        Download(
            title="Aff-Wild2",
            folder="affwild2",
            citation=(
                'D. Kollias and S. Zafeiriou, "Expression, affect, action unit recognition: Aff-Wild2, multi-task '
                'learning and ArcFace", BMVC 2019.'
            ),
            terms="For research, by agreement with its authors; not for commercial use.",
            content=HINT,
            sources=(
                Application(
                    name="application",
                    apply_at="https://ibug.doc.ic.ac.uk/resources/aff-wild2/",
                    terms="The page says who may apply, and for which annotations.",
                ),
            ),
        ),
    )

    def __init__(self, *, annotations: Kind, frame_step: int, val_share: float, split_seed: int, **common: Any) -> None:
        """Store the options; `conf/data/affwild2.yaml` documents them.

        Args:
            annotations: Which frames are served: those with an `expression`, or with `valence_arousal`. What else is
                known of a frame comes with it.
            frame_step: Of so many frames of a video that is not of the test, the first is served.
            val_share: Fraction of the training videos that becomes the validation split.
            split_seed: Seed of the draw, independent of the run's.
            **common: Arguments of `StoreDataModule`.
        """
        super().__init__(**common)
        self.annotations: Kind = annotations
        self.frame_step, self.split_seed = frame_step, split_seed
        self.split_shares = validation_fractions(val_share)

    def clip_of(self, id: str) -> str:
        """Return the video that a frame is of."""
        return id.rpartition("/")[0]

    def store_options(self) -> dict[str, Any]:
        """Return which frames are read and how the validation split is drawn."""
        return {
            "max_side": MAX_SIDE,
            "annotations": self.annotations,
            "frame_step": self.frame_step,
            "split_shares": self.split_shares,
            "split_seed": self.split_seed,
        }

    def records(self) -> Iterator[Record | Skipped]:
        """Yield the annotated frames.

        Raises:
            ConfigError: If faces or annotations are missing or damaged.
        """
        path = self.source()
        if not path.is_dir():
            raise ConfigError(f"data.path={path} is no folder; expected {HINT}. Unpack an archive first.")
        faces, videos = face_folders(path), read_annotations(path, self.annotations)
        self.left_out.clear()
        for (name, video), split in zip(videos.items(), self._splits(videos), strict=True):
            folder = next((place / name for place in faces if (place / name).is_dir()), None)
            if folder is None:
                yield Skipped(name, f"has annotations, and no folder of faces in {', '.join(f.name for f in faces)}")
            else:
                yield from self._frames(name, video, split, folder)

    def _splits(self, videos: dict[str, Video]) -> Sequence[Split]:
        labels = [Counter(video.labels.values()).most_common(1) for video in videos.values()]
        return complete_splits(
            list(videos),
            [common[0][0] if common else "" for common in labels],
            [video.split for video in videos.values()],
            self.split_shares,
            self.split_seed,
            [_recording(name) for name in videos],
        )

    def _frames(self, name: str, video: Video, split: Split, folder: Path) -> Iterator[Record | Skipped]:
        step = 1 if split == "test" else self.frame_step
        for number in sorted(video.labels if self.annotations == "expression" else video.affect):
            label = video.labels.get(number, "")
            if (number - 1) % step:
                continue
            if label == OTHER:
                if self.annotations == "expression":
                    self.left_out["the expression is another one (Other)"] += 1
                    continue
                label = ""
            file = single_file(folder / f"{number:05}.jpg", f"{name}/{number:05}.jpg")
            if file.location is None or not file.location.exists():
                self.left_out["the face was not found by the authors: there is no image"] += 1
                continue
            try:
                image = read_image(file.read())
            except UnreadableImage as error:
                yield Skipped(file.path, str(error))
                continue
            yield Record(file.path, split, label, image, *video.affect.get(number, (math.nan, math.nan)))


def _recording(name: str) -> str:
    """Return the name of a video without the side of a person in it, so that both people are in one split."""
    return next((name.removesuffix(side) for side in SIDES if name.endswith(side)), name)
