import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from src.runs import directory as run_directory
from src.runs.directory import (
    environment,
    hold_directory,
    release_directory,
    update_provenance,
    write_config,
    write_status,
)
from src.utils.paths import ROOT
from src.utils.schemas import read_json

# Holds a directory, then forks as a loader process would be; prints that one's id.
HOLDER = """
import os, sys, time
from pathlib import Path
from src.runs.directory import hold_directory

assert hold_directory(Path(sys.argv[1]))
if not os.fork():
    print(os.getpid(), flush=True)  # its copy of the lock is closed by now
time.sleep(60)
"""


def test_status_tells_how_and_why(tmp_path):
    write_status(tmp_path, "running")
    write_status(tmp_path, "failed", "no disk")
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["reason"]) == ("failed", "no disk")
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_provenance_grows(tmp_path):
    update_provenance(tmp_path, **environment(["seed=1"], {"head": "linear"}))
    update_provenance(tmp_path, wandb_id="abc")
    known = read_json(tmp_path / "provenance.json")
    assert known["overrides"] == ["seed=1"]
    assert known["wandb_id"] == "abc"
    assert known["versions"]["torch"]


def test_an_installed_package_is_of_no_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "WORKSPACE", tmp_path)
    assert environment([], {})["git_sha"] is None


def test_config_keeps_texts_that_look_like_numbers(tmp_path):
    config = {"a": "1e3", "b": [1, None, "null"], "c": {"d": 1e-3}}
    write_config(tmp_path, config)
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"), resolve=False) == config


def test_config_names_files_so_that_they_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.zip", "b.csv", "c.npz", "last.ckpt"):
        (tmp_path / name).touch()
    part = {"path": "a.zip", "votes_path": "b.csv", "landmarks_path": "c.npz", "name": "a.zip"}
    config = {"data": {**part, "parts": [part, {"path": "absent"}]}, "ckpt_path": "last.ckpt"}
    write_config(tmp_path, config)
    written = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    found = {key: str(tmp_path / name) for key, name in part.items()} | {"name": "a.zip"}
    assert written == {
        "data": {**found, "parts": [found, {"path": "absent"}]},
        "ckpt_path": str(tmp_path / "last.ckpt"),
    }
    assert config["data"]["path"] == "a.zip"  # the caller's stays


def test_broken_files_read_as_empty(tmp_path):
    (tmp_path / "x.json").write_text("{")
    assert read_json(tmp_path / "x.json") == {}
    assert read_json(tmp_path / "absent.json") == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_frees_its_directory_though_its_loaders_live_on(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    loader = int(holder.stdout.readline())
    try:
        assert not hold_directory(tmp_path)
        holder.kill()
        holder.wait()
        os.kill(loader, 0)  # it lives
        assert hold_directory(tmp_path)
    finally:
        holder.kill()
        os.kill(loader, signal.SIGKILL)
        holder.communicate()  # the loader has its output, too
        release_directory(tmp_path)


def test_a_released_directory_is_free(tmp_path):
    for _ in range(2):
        assert hold_directory(tmp_path)
        with pytest.raises(TimeoutError):
            FileLock(tmp_path / ".lock").acquire(blocking=False)
        release_directory(tmp_path)
        with FileLock(tmp_path / ".lock").acquire(blocking=False):
            pass


def test_where_there_are_no_locks_nothing_is_reserved(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert hold_directory(tmp_path)
    release_directory(tmp_path)
