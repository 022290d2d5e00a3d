import signal
import time
from contextlib import nullcontext

import pytest
import wandb

from src.loggers.hyperparameters import filterable
from src.loggers.wandb_logger import closed_wandb, open_wandb, wandb_mode
from src.utils.schemas import read_json
from src.utils.signals import Interrupted
from tests.helpers.wandb_file import OfflineRun

OPTIONS = {
    "project": "p",
    "entity": None,
    "group": None,
    "job_type": "train",
    "tags": ["t"],
    "timeout": 1,
    "finish_timeout": 5,
}
OPTIONS |= {"log_images": False, "log_model": False}


def recorded(run_dir):
    """Return the segments of a finished run, the first one first; wandb's own process writes them a little later."""
    for _ in range(100):
        segments = [OfflineRun(folder) for folder in sorted(run_dir.glob("wandb/offline-run-*"))]
        if all(segment.exit_code is not None for segment in segments):
            break
        time.sleep(0.1)
    return segments


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_mode_of_the_environment_wins(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"


def test_without_a_key_it_is_offline():
    assert wandb_mode() == "offline"


def test_a_key_of_the_environment_or_of_a_login_goes_online(monkeypatch, tmp_path):
    host = wandb.setup().settings.base_url.removeprefix("https://")
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {'k' * 40}\n")
    assert wandb_mode() == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode() == "online"


def test_a_dead_server_is_one_warning_and_an_offline_run(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    wandb.teardown()  # it has read the environment
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    try:
        with closed_wandb():
            logger = open_wandb(save_dir=str(tmp_path), **OPTIONS)
            run = logger.experiment
            lines = logger.closing_lines()
    finally:
        monkeypatch.delenv("WANDB_BASE_URL")
        wandb.teardown()
    assert len([r for r in caplog.records if "does not answer" in r.getMessage()]) == 1
    assert run.offline
    assert read_json(tmp_path / "provenance.json")["wandb_id"] == run.id
    assert "wandb sync" in lines[0]


ENDS = {"well": (None, 0), "failed": (ValueError(), 1), "killed": (Interrupted(signal.SIGTERM), 143)}


@pytest.mark.parametrize("end", ENDS)
def test_each_job_has_its_own_run_which_ends_as_the_job(tmp_path, end):
    error, code = ENDS[end]
    expected = pytest.raises(type(error)) if error else nullcontext()
    with expected, closed_wandb():
        open_wandb(save_dir=str(tmp_path), **OPTIONS)
        if error:
            raise error
    assert wandb.run is None
    assert [run.exit_code for run in recorded(tmp_path)] == [code]


def test_segments_of_a_run_share_its_id_and_count_on(tmp_path):
    for steps in ((0, 10, 20), (10, 25), ()):
        with closed_wandb():
            logger = open_wandb(save_dir=str(tmp_path), **OPTIONS)
            for step in steps:
                logger.log_metrics({"val/loss": 1 + step / 10, "val/accuracy": step / 100, "epoch": step}, step)
            # The trainer of a test counts from 0, as does that which validates the kept epoch once more.
            logger.log_metrics({"val/loss": -1.0, "epoch": 0}, 0) if steps else None
            logger.log_metrics({"test/accuracy": 0.5, "epoch": 0}, 0)
            logger.log_results({"val/accuracy": 0.1})
            lines = logger.closing_lines()
        time.sleep(1.1)  # folders are named by the second
    segments = recorded(tmp_path)
    assert len({run.run.run_id for run in segments}) == 1
    assert [[row["_step"] for row in run.history] for run in segments] == [[0, 10, 20], [21, 25], [26]]
    assert [row.get("epoch") for row in segments[0].history] == [0, 10, 20]
    assert segments[0].history[-1]["test/accuracy"] == 0.5
    assert segments[1].summary["val/loss"] == {"min": 1}  # the first segment's
    assert segments[1].summary["val/accuracy"] == {"max": 0.25}
    assert segments[1].summary["best/val/accuracy"] == 0.1
    folders = sorted(str(folder) for folder in tmp_path.glob("wandb/offline-run-*"))
    assert lines[0].endswith(f"its 3 parts in this order, at once): wandb sync {' '.join(folders)}")


def test_the_best_of_an_error_is_the_smallest_and_what_has_no_direction_has_no_best(tmp_path):
    with closed_wandb():
        logger = open_wandb(save_dir=str(tmp_path), **OPTIONS)
        for step, value in enumerate((0.3, 0.1, 0.2)):
            logger.log_metrics({"val/landmarks_nme": value, "val/f1/happy": value, "val/beauty": value}, step)
        logger.log_results({})
    (segment,) = recorded(tmp_path)
    assert segment.summary["val/landmarks_nme"] == {"min": 0.1}
    assert segment.summary["val/f1/happy"] == {"max": 0.3}
    assert segment.summary["val/beauty"] == 0.2


def test_a_configuration_that_filters_well():
    config = {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}, "head": {"name": "linear"}, "run_dir": "/x"}
    choices = {"optimizer": "adam", "head": "other", "experiment": "smoke", "logger": "wandb"}
    expected = {"optimizer": {"name": "adam", "lr": 0.1}, "head": {"name": "linear"}, "experiment": "smoke"}
    assert filterable(config, choices) == expected
