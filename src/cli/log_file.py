"""The log of a run, which a full disk does not turn into a screen of tracebacks."""

from __future__ import annotations

import logging
import sys


class LogFile(logging.FileHandler):
    """A log file; that it cannot be written is said once, in a line."""

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say why a message is not in the file."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            print(f"{self.baseFilename} cannot be written: {error.strerror or error}", file=sys.stderr)
