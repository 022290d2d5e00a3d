"""Tests of what a checkpoint's callbacks may name: nothing but the two files of its own folder and of this run's."""

import logging
import shutil

import pytest
import torch

from src.callbacks.checkpoints import BestCheckpoint, keep_own_files

BEST = "BestCheckpoint{'monitor': 'val/accuracy'}"


def state(folder, best="best.ckpt", **changes):
    """What Lightning keeps of a run whose checkpoints lie in a folder."""
    path = f"{folder}/{best}"
    return {
        **{"monitor": "val/accuracy", "dirpath": str(folder), "best_model_path": path, "kth_best_model_path": path},
        **{"best_k_models": {path: torch.tensor(0.5)}, "best_model_score": torch.tensor(0.5), "last_model_path": ""},
        **{"current_score": torch.tensor(0.4), "kth_value": torch.tensor(0.5)},
        **changes,
    }


def kept(states, resumed, own):
    checkpoint = {"callbacks": {BEST: states, "Other": {"wait_count": 2}}}
    keep_own_files(checkpoint, resumed, own)
    assert checkpoint["callbacks"]["Other"] == {"wait_count": 2}
    return checkpoint["callbacks"][BEST]


@pytest.fixture
def folders(tmp_path):
    """The folder of the run that is resumed, with its two files, and that of this run, without any."""
    resumed, own = tmp_path / "resumed", tmp_path / "own"
    for folder in (resumed, own):
        folder.mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (resumed / name).write_text(f"theirs, {name}")
    return resumed, own


def test_the_two_files_of_both_folders_may_be_named(folders, caplog):
    resumed, own = folders
    assert kept(state(resumed), resumed, resumed) == state(resumed)
    assert kept(state(resumed), resumed, own) == state(resumed)
    assert kept(state(resumed, "last.ckpt"), resumed, own) == state(resumed, "last.ckpt")
    shutil.copy(resumed / "best.ckpt", own)
    assert kept(state(own), resumed, own) == state(own)
    assert not caplog.messages


def test_a_run_that_was_moved_keeps_its_best(folders, caplog):
    resumed, own = folders
    assert kept(state("/where/it/was"), resumed, own) == state(resumed)
    nothing = state(resumed, best_model_path="", kth_best_model_path="", best_k_models={})
    assert kept({**nothing, "dirpath": "/where/it/was"}, resumed, own) == {**nothing, "dirpath": str(own)}
    assert not caplog.messages


@pytest.mark.parametrize(
    "changes",
    [
        {"best_model_path": "local:///some/folder"},
        {"best_model_path": "local:///some/best.ckpt", "dirpath": "local:///some"},
        {"best_model_path": "http://example.org/best.ckpt", "dirpath": "http://example.org"},
        {"best_model_path": "/etc/passwd", "dirpath": "/etc"},
        {"best_model_path": "/other/run/best.ckpt"},
        {"last_model_path": "file::/some/last.ckpt"},
        {"kth_best_model_path": "../../elsewhere/best.ckpt"},
        {"best_k_models": {"local:///some/folder": torch.tensor(1.0)}},
        {"best_k_models": {3: torch.tensor(1.0)}},
        {"best_model_path": ["/etc/passwd"]},
    ],
)
def test_everything_else_is_dropped_with_a_warning(folders, caplog, changes):
    resumed, own = folders
    assert kept(state(resumed, **changes), resumed, own) == {}
    assert "BestCheckpoint names" in caplog.text
    assert f"expected best.ckpt or last.ckpt in {resumed}" in caplog.text


def test_a_link_to_another_file_is_none_of_the_run(folders, caplog):
    resumed, own = folders
    (resumed / "best.ckpt").unlink()
    (resumed / "best.ckpt").symlink_to("/etc/passwd")
    assert kept(state(resumed), resumed, own) == {}
    assert len(caplog.messages) == 1


def test_the_best_of_another_folder_is_copied_and_nothing_else(folders):
    resumed, own = folders
    callback = BestCheckpoint(str(own), "val/accuracy", "max")
    callback.load_state_dict(state(resumed))
    assert callback.best_model_path == str(own / "best.ckpt")
    assert callback.best_model_score == 0.5
    assert (own / "best.ckpt").read_text() == "theirs, best.ckpt"
    (resumed / "secret").write_text("private")
    BestCheckpoint(str(own), "val/accuracy", "max").load_state_dict(state(resumed, "secret"))
    assert [path.name for path in own.iterdir()] == ["best.ckpt"]


def test_what_is_no_state_stays_what_it_is(folders, caplog):
    for callbacks in (None, [], {"a": "text", "b": {"history": []}}):
        checkpoint = {"callbacks": callbacks}
        keep_own_files(checkpoint, *folders)
        assert checkpoint == {"callbacks": callbacks}
    caplog.set_level(logging.WARNING)
    assert not caplog.messages
