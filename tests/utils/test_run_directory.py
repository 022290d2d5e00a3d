import json

from omegaconf import OmegaConf

from src.utils.run_directory import environment, read_json, update_provenance, write_config, write_status


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


def test_config_is_resolved(tmp_path):
    write_config(tmp_path, OmegaConf.create({"a": 1, "b": "${a}"}))
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"), resolve=False) == {"a": 1, "b": 1}


def test_broken_files_read_as_empty(tmp_path):
    (tmp_path / "x.json").write_text("{")
    assert read_json(tmp_path / "x.json") == {}
    assert read_json(tmp_path / "absent.json") == {}
