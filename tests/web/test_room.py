import os
import signal
import subprocess
import sys
import time

import pytest

from src.utils.locks import new_lock
from src.utils.paths import ROOT
from src.web.room import LOCK, MAX_AGE, MIN_AGE, PREFIX, Room, own_folder, remove_leftovers

PAGE = """
import time
from src.utils.signals import stop_requests
from src.web.room import own_folder
with stop_requests.handled(), own_folder() as folder, stop_requests.deferred():
    (folder / "upload.png").write_bytes(b"a face")
    print(folder, flush=True)
    while not stop_requests.take():
        time.sleep(0.01)
"""


def write(path, size, age=0.0):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age,) * 2)
    return path


on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor owners of this kind")


@on_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_the_folder_goes_with_its_demo(tmp_path, monkeypatch, name):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", PAGE], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        folder = process.stdout.readline().strip()
        remove_leftovers(tmp_path)
        assert os.path.exists(os.path.join(folder, "upload.png"))  # it runs
        process.send_signal(getattr(signal, name))
        process.wait(timeout=60)
    finally:
        process.kill()
        process.stdout.close()
    assert os.path.exists(folder) == (name == "SIGKILL")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with own_folder() as next_one:
        assert list(tmp_path.iterdir()) == [next_one]
    assert list(tmp_path.iterdir()) == []


@on_posix
def test_only_folders_of_demos_that_run_no_more_are_removed(tmp_path):
    left, running, other, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("left", "running", "other", "foreign"))
    for folder in (left, running, foreign):
        write(folder / LOCK, 0)
        write(folder / "upload.png", 9)
    write(other / "results.csv", 9)  # by chance of the same name
    write(tmp_path / "emonet" / LOCK, 0)
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "emonet")
    with new_lock(running / LOCK):
        remove_leftovers(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {running.name, other.name, "emonet", f"{PREFIX}link"}
    assert (running / "upload.png").exists()


@on_posix
def test_folders_of_other_users_are_left_alone(tmp_path, monkeypatch):
    write(tmp_path / f"{PREFIX}other" / LOCK, 0)
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    remove_leftovers(tmp_path)
    assert (tmp_path / f"{PREFIX}other" / LOCK).exists()


def test_old_files_go(tmp_path):
    kept = write(tmp_path / "drawn.png", 500, age=2 * MAX_AGE)
    room = Room(tmp_path, 100)
    old, new = write(tmp_path / "a" / "old", 9, age=2 * MAX_AGE), write(tmp_path / "b" / "new", 9, age=MAX_AGE / 2)
    room.tidy()
    assert kept.exists()
    assert new.exists()
    assert not old.parent.exists()


def test_the_oldest_make_room(tmp_path):
    room = Room(tmp_path, 100)
    paths = [write(tmp_path / str(i) / "file", 30, age=age) for i, age in enumerate((300, 400, 200, MIN_AGE / 2))]
    room.tidy()
    assert [path.exists() for path in paths] == [True, False, True, True]
    with room.reserved(30) as there_is:
        assert there_is
    assert [path.exists() for path in paths] == [False, False, True, True]
    with room.reserved(30) as first, room.reserved(30) as second, room.reserved(30) as third:
        assert (first, second, third) == (True, True, False)  # for the file that is just being looked at stays
    assert [path.exists() for path in paths] == [False, False, False, True]
    room.tidy()
    with room.reserved(70) as there_is:
        assert there_is
    with room.reserved(71) as there_is:
        assert not there_is
