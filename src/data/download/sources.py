"""What a data set says of where it comes from, and what is common to all sources."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.data.readers.archives import is_junk
from src.utils.errors import ConfigError
from src.utils.locks import alone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source(ABC):
    """A place that data can be had from.

    Attributes:
        name: What the option `source` calls it.
    """

    name: str

    @property
    @abstractmethod
    def page(self) -> str:
        """Where people read about it."""

    @abstractmethod
    def fetch(self, folder: Path) -> None:
        """Put the data into a folder that exists: under their name when they are whole, under a hidden one before.

        Raises:
            ConfigError: If they cannot be had; no message holds a password, a token or a redirect's address.
        """


@dataclass(frozen=True)
class Application(Source):
    """Data that are given to those who apply for them.

    Attributes:
        apply_at: Page of the application.
        terms: Who may apply, and what for; a sentence.
    """

    apply_at: str
    terms: str

    @property
    def page(self) -> str:
        """Page of the application."""
        return self.apply_at

    def fetch(self, folder: Path) -> None:
        """Say how to apply.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"nothing was fetched, as it is given on application alone, at {self.page}. {self.terms}")


@dataclass(frozen=True)
class Download:
    """What belongs into a folder of `data_dir/raw/`.

    Attributes:
        title: What it is called.
        folder: Name of the folder.
        citation: What to cite.
        terms: Terms of use, in a sentence or two.
        content: What belongs there, for those who put it there by hand.
        sources: Where it can be had; the first is the default.
    """

    title: str
    folder: str
    citation: str
    terms: str
    content: str
    sources: tuple[Source, ...]

    def fetch(self, raw: Path, chosen: str | None = None) -> None:
        """Print citation and terms, and fetch what is not there.

        Args:
            raw: The folder `data_dir/raw`.
            chosen: Name of a source; None, or one that others have, for the first.

        Raises:
            ConfigError: If it cannot be fetched.
        """
        folder = raw / self.folder
        source = next((one for one in self.sources if one.name == chosen), self.sources[0])
        log.info("%s (%s)\n  Cite: %s\n  Terms: %s", self.title, source.page, self.citation, self.terms)
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / ".lock", f"Another process is downloading to {folder}; waiting for it."):
            if entries(folder):
                log.info("%s is there already: %s. To fetch it again, remove that first.", self.title, folder)
                return
            try:
                source.fetch(folder)
            except ConfigError as error:
                others = [f"source={one.name}" for one in self.sources if one is not source]
                hint = f" Or try {' or '.join(others)}." if others else ""
                by_hand = f"With a copy of your own, put {self.content} into {folder}."
                raise ConfigError(f"{self.title}: {error}{hint} {by_hand}") from None
            log.info("%s is in %s now.", self.title, folder)


def choices(downloads: Sequence[Download]) -> list[str]:
    """Return the names of the sources among which the option `source` chooses."""
    return [source.name for download in downloads for source in download.sources if len(download.sources) > 1]


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder of `data_dir/raw/`, without what is hidden or left by file managers."""
    return [path for path in folder.iterdir() if not is_junk([path.name])] if folder.is_dir() else []
