"""The images of a data set as they are: from their source to their packed store."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from rich.progress import track

from src.data.download.sources import Download, entries
from src.data.readers.fingerprint import source_fingerprint
from src.data.readers.frames import FaceCutter
from src.data.readers.landmark_file import LandmarkFile, landmark_path
from src.data.store.packed_store import DamagedStore, PackedStore, Record, Skipped
from src.data.store.store_writer import write_store
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


class PackedImages(ABC):
    """Finds the source of a data set, and packs its images at first use.

    A subclass states its `source_hint`, and yields its images in `records()`, each with its split; `raw_name` is the
    folder of `data_dir/raw/` where its source may lie, if not its name, and `downloads` is what
    `python -m src.download` puts into such folders. `generated` says that it needs no source.

    Attributes:
        name: Name of the data set.
        left_out: Reason -> number of readable images that `records()` leaves out by it; the store remembers them.
        face_cutter: Cuts faces out of scenes, for data sets that want it; None if there is nothing that does.
    """

    source_hint: ClassVar[str]
    raw_name: ClassVar[str | None] = None
    downloads: tuple[Download, ...] = ()
    generated: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        path: str | None,
        data_dir: str,
        max_bad: float,
        landmarks_path: str | None,
        face_cutter: FaceCutter | None = None,
    ) -> None:
        """Store the options; `conf/data/default.yaml` documents them.

        Args:
            name: Name of the data set.
            path: Where its source lies; None for generated data.
            data_dir: Folder for the packed stores.
            max_bad: Largest accepted fraction of unreadable images.
            landmarks_path: File of the images' landmarks, see `src.data.readers.landmark_file`; None for those, if any,
                that the data set has.
            face_cutter: Cuts faces out of scenes; None if there is nothing that does.
        """
        super().__init__()
        self.name: str | None = name  # as Lightning declares it
        self.path, self.cache_dir = path, Path(data_dir) / "cache"
        self.max_bad, self._landmarks_path = max_bad, landmarks_path
        self.left_out: Counter[str] = Counter()
        self._store: PackedStore | None = None
        self.face_cutter = face_cutter

    @abstractmethod
    def records(self) -> Iterator[Record | Skipped]:
        """Yield every image of the data set, or the reason why one cannot be read."""

    def origins(self) -> list[str] | None:
        """Return which collection each image of the store comes from, (N,); None for a data set that is one."""
        return None

    def remarks(self) -> list[str]:
        """Return what users of the data set should know, found in its images, in sentences for the audit."""
        return []

    def clip_of(self, id: str) -> str:
        """Return the clip that an image of the store is a frame of; an image by itself is its own."""
        return id

    def store_options(self) -> dict[str, Any]:
        """Return the options, beside the source, that determine the store's content."""
        return {}

    def source(self) -> Path:
        """Return `data.path`, or else what lies in `data_dir/raw/` under the data set's name.

        Raises:
            ConfigError: If there is neither.
        """
        return self.find_source("data.path", self.path, self.raw_name or str(self.name), self.source_hint)

    def find_source(self, key: str, location: str | None, raw_name: str, expected: str) -> Path:
        """Return a file or folder that a key of the configuration names, or else what lies in a folder of `raw`.

        Args:
            key: The key.
            location: Its value; None to look in `data_dir/raw/<raw_name>`.
            raw_name: Name of a data set.
            expected: What it should be, for messages.

        Raises:
            ConfigError: If there is nothing.
        """
        if location:
            path = Path(location).expanduser()
            if not (path.is_file() or path.is_dir()):
                found = "is neither a file nor a folder" if path.exists() else "does not exist"
                raise ConfigError(f"{key}={location} {found}; data={self.name} expects {expected}.")
            return path
        folder = self.cache_dir.parent / "raw" / raw_name
        files = entries(folder)
        if not files:
            fetch = f"python -m src.download data={self.name} fetches it, or says where it is to be had. "
            raise ConfigError(
                f"{key} is not set, and nothing lies in {folder}; data={self.name} expects {expected}. "
                f"{fetch if self.downloads else ''}Put it there, or set {key}=..."
            )
        return files[0] if len(files) == 1 else folder

    @property
    def store(self) -> PackedStore:
        """The images; the store is built at first use."""
        if self._store is None:
            self._store = self._open()
        return self._store

    def _open(self) -> PackedStore:
        source, memo = None if self.generated else self.source(), self.cache_dir / "sources.json"
        options = {"name": self.name, **self.store_options()}
        if self._landmarks_path:
            options["landmarks"] = source_fingerprint(landmark_path(self._landmarks_path), {}, memo)
        fingerprint = source_fingerprint(source, options, memo)
        folder = self.cache_dir / f"{self.name}-{fingerprint}"
        log.info("Data: %s", folder.name)
        if folder.exists():
            try:
                return PackedStore(folder)
            except DamagedStore as damage:
                log.warning("Building a store anew: %s", damage)
        records = self.records()
        if self._landmarks_path:
            records = LandmarkFile(self._landmarks_path).added_to(records)
        tracked = track(records, description=f"Preparing {self.name}")
        store = write_store(folder, tracked, self.max_bad, self.left_out)
        for entry in store.skipped:
            log.warning("%s: skipped %s: %s", self.name, entry.id, entry.reason)
        for reason, n in store.left_out.items():
            log.info("data=%s: left out %s images: %s", self.name, f"{n:,}", reason)
        return store

    @property
    def fingerprint(self) -> str:
        """Name of the store: data set and content hash."""
        return self.store.path.name
