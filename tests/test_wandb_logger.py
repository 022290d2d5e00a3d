import pytest
import wandb

from src import wandb_logger
from src.utils.run_directory import read_json
from src.wandb_logger import closing_lines, finish_wandb, open_wandb, wandb_mode

OPTIONS = {"project": "p", "entity": None, "group": None, "tags": ["t"], "log_images": False, "timeout": 1}


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


def test_no_answer_is_one_warning_and_an_offline_run(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    start = wandb.init

    def unreachable(mode, **options):
        if mode == "online":
            raise wandb.errors.CommError("no answer")
        return start(mode=mode, **options)

    monkeypatch.setattr(wandb_logger.wandb, "init", unreachable)
    logger = open_wandb(save_dir=str(tmp_path), **OPTIONS)
    run = logger.experiment
    finish_wandb(failed=False)
    assert [r.getMessage() for r in caplog.records if "does not answer" in r.getMessage()] != []
    assert run.offline
    assert read_json(tmp_path / "provenance.json")["wandb_id"] == run.id
    assert "wandb sync" in closing_lines(run)[0]


def test_each_job_of_a_process_has_its_own_run(monkeypatch, tmp_path):
    ids = []
    for name in "ab":
        (tmp_path / name).mkdir()
        ids.append(open_wandb(save_dir=str(tmp_path / name), **OPTIONS).experiment.id)
        finish_wandb(failed=name == "a")
        assert wandb.run is None
    assert ids[0] != ids[1]


def test_a_resumed_run_keeps_its_id(tmp_path):
    ids = []
    for _ in range(2):
        ids.append(open_wandb(save_dir=str(tmp_path), **OPTIONS).experiment.id)
        finish_wandb(failed=False)
    assert ids[0] == ids[1]
