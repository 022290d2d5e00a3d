"""A user's own clips, in class folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.data.datasets.folder import FolderDataModule
from src.data.readers.class_folders import SUFFIXES, Entry, draw_splits, without_links
from src.data.readers.clips import Clip, Pixels, list_clips, read_clip
from src.data.readers.containers import VIDEO_SUFFIXES
from src.data.store.packed_store import Record, Skipped
from src.data.vocabulary import CANONICAL
from src.utils.errors import ConfigError


class ClipsDataModule(FolderDataModule):
    """Clips in `split/class/...`, or in `class/...` with a split drawn by a seed; splits and classes as in `folder`.

    A clip is a video, or a folder of frames, and has one label. Some frames of each are served as images; none of its
    frames is in another split. With a `subject_pattern`, no subject is in two splits either. Of scenes, the largest
    face of each frame is cut out. The id of an image is the clip's path, `#`, and the number of the frame.
    """

    named_suffixes = (*SUFFIXES, *VIDEO_SUFFIXES)
    source_hint = (
        "a folder with split/class/clip, such as train/happy/1.mp4, or with class/clip, where a clip is a video or a "
        f"folder of frames, the classes being {', '.join(CANONICAL)} or their synonyms"
    )

    def __init__(
        self, *, frames_per_clip: int, crop: str | None, subject_pattern: str | None = None, **folder: Any
    ) -> None:
        """Store the options; `conf/data/clips.yaml` documents them.

        Args:
            frames_per_clip: Frames of each clip that are served, from all over it.
            crop: Which square about the largest face is cut out of each frame, see `src.models.crops`; None if the
                frames are faces already.
            subject_pattern: Regular expression whose first group is the subject in a clip's path.
            **folder: Arguments of `FolderDataModule`.

        Raises:
            ConfigError: If the pattern is none, or has no group.
        """
        super().__init__(**folder)
        self.frames_per_clip, self.crop = frames_per_clip, crop
        self._subject_pattern = None if subject_pattern is None else _pattern(subject_pattern)

    def clip_of(self, id: str) -> str:
        """Return the clip that a frame is of."""
        return id.rpartition("#")[0]

    def store_options(self) -> dict[str, Any]:
        """Return how frames are chosen and cut, and how splits are drawn."""
        subjects = None if self._subject_pattern is None else self._subject_pattern.pattern
        own = {"frames_per_clip": self.frames_per_clip, "crop": self.crop, "subject_pattern": subjects}
        return {**super().store_options(), **own}

    def source(self) -> Path:
        """Return the folder.

        Raises:
            ConfigError: If it is none.
        """
        path = super().source()
        if not path.is_dir():
            raise ConfigError(
                f"data.path={path} is no folder; data=clips expects {self.source_hint}. Unpack an archive first: "
                "videos are read where they lie."
            )
        return path

    def _read(self, entries: Sequence[Entry]) -> Iterator[Record | Skipped]:
        cut = self._cutter()
        clips, skipped = list_clips(entries)
        yield from skipped
        subjects = self._subjects(clips)
        groups: list[Hashable] | None = None if subjects is None else list(subjects)
        drawn = draw_splits([clip.entry for clip in clips], self.split_shares, self.split_seed, groups)
        for clip, entry in zip(clips, without_links(drawn), strict=True):
            if isinstance(entry, Skipped):
                yield Skipped(clip.id, entry.reason)
            else:
                yield from read_clip(replace(clip, entry=entry), self.frames_per_clip, cut)

    def _cutter(self) -> Callable[[Pixels], Pixels | None] | None:
        if self.crop is None:
            return None
        if self.face_cutter is None:
            raise ConfigError(
                f"data.crop={self.crop}: nothing here finds faces; build the store with python -m src.prepare first, "
                "or build the data set with face_cutter=LargestFace() of src.inference.largest_face, or set "
                "data.crop=null if the frames are faces already."
            )
        cutter, crop = self.face_cutter, self.crop
        return lambda image: cutter(image, crop)

    def _subjects(self, clips: Sequence[Clip]) -> list[str] | None:
        """Return whom each clip shows, (N,), or None if nothing tells."""
        if self._subject_pattern is None:
            return None
        subjects: list[str] = []
        first: dict[str, Clip] = {}
        for clip in clips:
            found = self._subject_pattern.search(clip.id)
            if found is None or found[1] is None:
                raise ConfigError(
                    f"data.subject_pattern={self._subject_pattern.pattern} finds no subject in {clip.id!r}; expected "
                    r"a regular expression whose first group is the subject of every clip, such as 'Actor_(\d+)'."
                )
            subjects.append(found[1])
            other = first.setdefault(found[1], clip)
            if other.entry.split != clip.entry.split:
                raise ConfigError(
                    f"data.path={self.path}: the subject {found[1]!r} is in {other.entry.split} ({other.id}) and in "
                    f"{clip.entry.split} ({clip.id}); keep each subject in one split, or leave the split folders out "
                    "to have splits drawn, or set data.subject_pattern=null to allow this."
                )
        return subjects


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"data.subject_pattern={text} is no regular expression ({error}).") from None
    if not pattern.groups:
        raise ConfigError(
            rf"data.subject_pattern={text} has no group; expected one about the subject, such as 'Actor_(\d+)'."
        )
    return pattern
