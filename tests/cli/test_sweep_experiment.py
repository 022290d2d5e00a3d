"""The best job of a sweep as an experiment: what a stranger's folder holds must not run, nor read the environment."""

import json
import shutil

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from src.cli.sweep_experiment import write_experiment
from src.cli.sweep_summary import summarize_sweep
from src.runs.config import is_plain
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.cli.test_sweeps import names, runs, sweep
from tests.helpers.running import compose_config

CHOICES = [{"override /logger": "none"}, {"override /optimizer": "sgd"}]


@pytest.fixture
def job(tmp_path):
    """A finished job of a sweep, with another rate and optimizer than the defaults have, when the sweep ends."""
    run_dir = tmp_path / "sweep" / "0_optimizer-sgd"
    run_dir.mkdir(parents=True)
    cfg = compose_config("train", "optimizer=sgd", "optimizer.lr=0.5", "logger=none", f"run_dir={run_dir}")
    OmegaConf.save(OmegaConf.to_container(cfg, resolve=True), run_dir / "config.yaml")
    choices = {"optimizer": "sgd", "logger": "none", "head": "linear", "sweep": None}
    (run_dir / "provenance.json").write_text(json.dumps({"choices": choices, "overrides": ["optimizer=sgd"]}))
    (run_dir / "status.json").write_text('{"state": "finished"}')
    (run_dir / "metrics.json").write_text('{"val/f1_macro": 0.5}')
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        yield run_dir


def plant(job, entries):
    """Put entries, given by dotted keys, into a job's configuration."""
    config = OmegaConf.load(job / "config.yaml")
    for key, value in entries.items():
        OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, job / "config.yaml")


def experiment(job):
    return (job.parent / "experiment" / "best.yaml").read_text()


def test_it_says_what_the_defaults_do_not(job):
    assert write_experiment(job.parent, job, "train") == []
    best = yaml.safe_load(experiment(job))
    assert best == {
        "defaults": CHOICES,
        "optimizer": {"lr": 0.5},
    }


PICKLE = {"_target_": "pandas.read_pickle", "filepath_or_buffer": "stolen.pkl"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.mine", PICKLE),
        ("optimizer._target_", "pandas.read_pickle"),
        ("optimizer._args_", ["stolen.pkl"]),
        ("data.parts", [{"name": "x", "loader": PICKLE}]),
        ("plugins", ["antigravity"]),
        ("hydra", {"callbacks": {"mine": {"_target_": "src.cli.hydra_callbacks.SweepSummary"}}}),
        ("defaults", [{"override /head": "linear"}]),
    ],
)
def test_code_is_left_out(job, key, value):
    plant(job, {key: value})
    assert write_experiment(job.parent, job, "train") == [key]
    best = yaml.safe_load(experiment(job))
    assert best["optimizer"] == {"lr": 0.5}
    assert best["defaults"] == CHOICES
    assert not {"plugins", "hydra", "callbacks", "data"} & set(best)


def test_code_of_conf_is_kept(job):
    mine = {"_target_": "src.callbacks.train_mode_once.TrainModeOnce"}  # as an experiment of ours adds it
    plant(job, {"callbacks.mine": mine})
    assert write_experiment(job.parent, job, "train") == []
    assert yaml.safe_load(experiment(job))["callbacks"] == {"mine": mine}


@pytest.mark.parametrize("key", ["trainer.accelerator", "data.batch_size", "run_dir", "monitor", "note"])
def test_the_environment_is_not_read(job, key, monkeypatch, capsys):
    monkeypatch.setenv("SECRET", "hush")
    plant(job, {key: "${oc.env:SECRET}"})
    assert summarize_sweep(job.parent, "train") == ["finished"]
    said = capsys.readouterr().err
    written = [path.read_text() for path in job.parent.rglob("*") if path.is_file() and path.parent != job]
    assert "hush" not in said + "".join(written)
    assert not any("${" in text for text in written)
    if key in ("trainer.accelerator", "data.batch_size", "note"):
        assert f"left out of it: {key}." in " ".join(said.split())


def test_a_choice_leads_to_no_file_of_a_strangers(job, capsys):
    """`override /head: ../somewhere` would be read from there."""
    outside = job.parent / "head" / "evil.yaml"
    outside.parent.mkdir()
    outside.write_text("name: evil\n_target_: pandas.read_pickle\n")
    way = "../" * len((ROOT / "conf" / "head").parts) + str(outside.with_suffix("")).lstrip("/")
    for option, message in ((way, "is no name of an option"), ("evil", "do not compose"), (["a"], "is no name")):
        (job / "provenance.json").write_text(json.dumps({"choices": {"head": option}}))
        with pytest.raises(ConfigError, match=message):
            write_experiment(job.parent, job, "train")
        assert summarize_sweep(job.parent, "train") == ["finished"]
        assert "not written as an experiment" in capsys.readouterr().err
    assert not (job.parent / "experiment").exists()


def test_settings_of_a_machine_are_not_a_sweeps(job):
    """`--config-dir` would read them, as `conf/train.yaml` asks for `local: default`."""
    (job.parent / "local").mkdir()
    with pytest.raises(ConfigError, match="not of a sweep's making"):
        write_experiment(job.parent, job, "train")


def test_a_name_of_a_folder_is_no_yaml(job):
    other = job.with_name("0_x\nplugins: [antigravity]")
    shutil.move(job, other)
    write_experiment(other.parent, other, "train")
    assert set(yaml.safe_load(experiment(other))) == {"defaults", "optimizer"}


def test_the_printed_command_runs_no_code_of_the_folder(tmp_path):
    """The whole way: a sweep's folder comes from a stranger, is gone on with, and the best job is repeated."""
    assert sweep(tmp_path, "optimizer.lr=0.001,0.003").returncode == 0
    theirs = {"_target_": "shutil.copyfile", "src": __file__, "dst": str(tmp_path / "stolen")}
    for name in names(tmp_path):
        plant(tmp_path / "sweep" / name, {"callbacks.mine": theirs})
    again = sweep(tmp_path, "optimizer.lr=0.001,0.003", "sweep.resume=true")
    assert again.returncode == 0, again.stderr
    assert len(runs(tmp_path)) == 2
    assert "left out of it: callbacks.mine" in again.stderr
    assert "shutil" not in (tmp_path / "sweep" / "experiment" / "best.yaml").read_text()


def test_plain_values():
    assert is_plain({"a": [1, 0.5, True, None, "text", {1: "x"}]})
    assert is_plain({"a": {"_target_": "src.A", "b": 1}}, {"src.A"})
    for value in ({"a": {"_target_": "src.A"}}, ["a", {"_partial_": True}], "a ${b}", {"a": ["${b}"]}, b"a"):
        assert not is_plain(value)
    assert not is_plain({"_target_": "src.A", "x": {"_target_": "os.system"}}, {"src.A"})
    assert not is_plain({"_args_": "src.A"}, {"src.A"})
