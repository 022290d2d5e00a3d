"""What a sweep says of itself: its page, and which job is the best."""

import json
import re

import pandas as pd
import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from src.cli.sweep_summary import Job, best_job, summarize_sweep, write_page
from src.utils.groups import CONF
from tests.helpers.running import compose_config


def test_scores_come_before_costs(tmp_path):
    row = {"job": "0", "state": "finished", "reason": None, "head": "linear", "fit/seconds": 1.0, "model/parameters": 2}
    scores = {"val/accuracy": 0.1, "test/accuracy": 0.2, "test/f1/happy": 0.3, "val/f1_macro": 0.4, "test/ece": 0.5}
    write_page(tmp_path, pd.DataFrame([{**row, **scores}]), None)
    columns = re.findall(r"<th[^>]*>\s*([^<]+?)\s*</th>", (tmp_path / "summary.html").read_text())
    assert columns[:4] == ["job", "state", "reason", "head"]
    assert columns[4:] == [
        *("val/f1_macro", "test/accuracy", "val/accuracy", "test/ece"),
        *("fit/seconds", "model/parameters"),
    ]


@pytest.mark.parametrize(("monitor", "best"), [("val/loss", "0"), ("val/landmarks_nme", "0"), ("val/accuracy", "1")])
def test_the_best_job_has_the_best_value_whatever_an_older_run_took_it_for(tmp_path, monitor, best):
    for name, value in (("0", 0.1), ("1", 0.2)):
        write_job(tmp_path / name, {"monitor": monitor, "monitor_mode": "max"}, {monitor: value})
    assert best_job([Job.read(tmp_path / name) for name in ("0", "1")]).path.name == best


def write_job(path, config, metrics):
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "status.json").write_text('{"state": "finished"}')
    (path / "provenance.json").write_text('{"overrides": ["seed=1"]}')


BROKEN = {
    "config.yaml": [b"monitor: [", b"\xff", b"- a", b"monitor: {a: b}", b"a: &a [1]\nmonitor: *a", b"a: ${"],
    "metrics.json": [b"", b"[1]", b'{"val/f1_macro": {}}', b'{"val/f1_macro": [1, 2]}', b"[" * 10_000],
    "status.json": [b"", b"\xff", b"[]", b'{"state": ["a"]}', b'{"state": "finished", "reason": {"a": 1}}'],
    "provenance.json": [b"{", b'{"overrides": {"a": 1}}', b'{"overrides": [1, [2]]}', b'{"choices": []}'],
}


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, many in BROKEN.items() for one in many])
def test_a_job_with_broken_files_does_not_end_the_summary(tmp_path, name, content, caplog):
    for job in ("0_a", "1_[red]"):
        write_job(tmp_path / job, {"monitor": "val/f1_macro"}, {"val/f1_macro": 0.5, "test/f1_macro": 0.4})
    (tmp_path / "0_a" / name).write_bytes(content)
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        states = summarize_sweep(tmp_path, "train")
    assert states[1] == "finished"
    assert (tmp_path / "summary.html").is_file()
    broken = [Job.read(tmp_path / "0_a").reason or "", caplog.text]
    assert any(f"{name} is broken" in text for text in broken)


@pytest.mark.parametrize(("monitor", "direction"), [("val/loss", "minimize"), ("val/f1_macro", "maximize")])
def test_a_search_goes_where_values_are_better(tmp_path, monitor, direction):
    compose_config("train", "sweep=search", f"monitor={monitor}", f"run_dir={tmp_path}")
    assert HydraConfig.get().sweeper.direction == direction
