"""SIGINT, SIGTERM and SIGHUP: stop at the next batch while training, at once otherwise."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """The user or the system asked the run to stop; the exit code is 128 plus the signal's number."""

    def __init__(self, signum: int) -> None:
        """Create the exception.

        Args:
            signum: Number of the signal.
        """
        super().__init__(128 + signum)
        self.reason = f"stopped by {signal.Signals(signum).name}"


class StopRequests:
    """Remembers a request to stop until a safe point; a second request stops at once."""

    def __init__(self) -> None:
        """Start with no request."""
        self._pending: int | None = None
        self._deferring = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals within the block."""
        previous = {s: signal.signal(s, self._on_signal) for s in _signals()}
        self._pending = None
        try:
            yield
        except RuntimeError:
            # Slurm and systemd signal loader processes, too, and PyTorch's complaint about their end comes first.
            self.raise_if_requested()
            raise
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block, stop only where `raise_if_requested` is called."""
        self._deferring = True
        try:
            yield
        except SystemExit:
            # Lightning ends by itself, with status 0, where it notices SIGTERM between two epochs.
            self.raise_if_requested()
            raise
        finally:
            self._deferring = False
        self.raise_if_requested()

    def raise_if_requested(self) -> None:
        """Stop here if asked to.

        Raises:
            Interrupted: If a signal has arrived.
        """
        if self._pending is not None:
            raise Interrupted(self._pending)

    def take(self) -> bool:
        """Return whether a request has arrived, and forget it: for work that it ends well, such as a recording."""
        taken, self._pending = self._pending is not None, None
        return taken

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        first, self._pending = self._pending is None, signum
        if not (self._deferring and first):
            raise Interrupted(signum)


def _signals() -> list[signal.Signals]:
    """Return what asks to stop."""
    found = [signal.SIGINT, signal.SIGTERM]
    # What a terminal sends that is closed; nohup has it ignored, and Windows does not know it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


stop_requests = StopRequests()
