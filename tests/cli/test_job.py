"""Tests of how a job starts, and of which errors are a user's to mend."""

import errno
import io
import os
import sys

import pytest

from src.cli.job import _mistake, start
from src.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space is left to write to (a.csv: "),
        (errno.EDQUOT, "no space is left to write to (a.csv: "),
        (errno.EROFS, "a.csv cannot be read or written ("),
        (errno.EIO, "a.csv cannot be read or written ("),
    ],
)
def test_a_failed_write_is_one_sentence(number, message):
    failure = RuntimeError("wrapped")
    failure.__cause__ = OSError(number, os.strerror(number), "a.csv")
    mistake = _mistake(failure)
    assert isinstance(mistake, ConfigError)
    assert str(mistake).startswith(message)


def test_a_mistake_in_the_code_is_none_of_the_users():
    assert _mistake(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert _mistake(KeyError("x")) is None


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_terminals_without_bars_and_bullets_get_something_else(monkeypatch, encoding):
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True))
    start(lambda: print("\u2501\u2022 62 %"))
    shown = sys.stdout.buffer.getvalue().decode(encoding).strip()
    assert shown == ("\u2501\u2022 62 %" if encoding == "utf-8" else "?? 62 %")
