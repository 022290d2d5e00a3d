import logging
from pathlib import Path

import pytest

from src.cli.log_file import LogFile


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_said_once(capsys):
    log = logging.Logger("test")
    log.addHandler(LogFile("/dev/full", encoding="utf-8"))
    for i in range(3):
        log.info("message %d", i)
    assert capsys.readouterr().err == "/dev/full cannot be written: No space left on device\n"


def test_messages_are_in_the_file_and_mistakes_in_the_code_are_loud(tmp_path, capsys):
    log = logging.Logger("test")
    log.addHandler(LogFile(tmp_path / "run.log", encoding="utf-8"))
    log.info("größer: %d", 3)
    log.info("%d", "no number")
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == "größer: 3\n"
    assert "Traceback" in capsys.readouterr().err
