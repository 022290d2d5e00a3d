"""The best checkpoint of a run that goes on at another place."""

import pytest
import torch

from src.callbacks.checkpoints import BestCheckpoint


def best_checkpoint(folder):
    return BestCheckpoint(str(folder), "val/f1_macro", "max")


@pytest.fixture
def state(tmp_path):
    """The state of a run in `before`, whose best epoch had a score of 0.7."""
    callback = best_checkpoint(tmp_path / "before")
    path = tmp_path / "before" / "best.ckpt"
    path.parent.mkdir()
    path.write_text("the best epoch")
    callback.best_model_path = callback.kth_best_model_path = str(path)
    callback.best_model_score = torch.tensor(0.7)
    callback.best_k_models = {str(path): callback.best_model_score}
    return callback.state_dict()


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "another run"])
def test_the_best_score_still_counts_elsewhere(tmp_path, state, moved):
    here = tmp_path / "after"
    if moved:
        (tmp_path / "before").rename(here)
    callback = best_checkpoint(here)
    callback.load_state_dict(state)
    assert callback.best_model_path == str(here / "best.ckpt")
    assert callback.best_model_score == pytest.approx(0.7)
    assert callback.best_k_models == {callback.kth_best_model_path: callback.best_model_score}
    assert (here / "best.ckpt").read_text() == "the best epoch"


def test_a_best_checkpoint_that_is_gone_is_forgotten(tmp_path, state):
    (tmp_path / "before" / "best.ckpt").unlink()
    callback = best_checkpoint(tmp_path / "after")
    with pytest.warns(UserWarning, match="dirpath has changed"):
        callback.load_state_dict(state)
    assert callback.best_model_score is None
