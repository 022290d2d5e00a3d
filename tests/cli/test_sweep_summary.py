"""What a sweep says of itself: its page, and which job is the best."""

import re

import pandas as pd
import pytest
import yaml
from hydra.core.hydra_config import HydraConfig

from src.cli.sweep_summary import Job, best_job, write_page
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
    jobs = []
    for name, value in (("0", 0.1), ("1", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"monitor": monitor, "monitor_mode": "max"}))
        jobs.append(Job(tmp_path / name, "finished", None, [], {monitor: value}))
    assert best_job(jobs).path.name == best


@pytest.mark.parametrize(("monitor", "direction"), [("val/loss", "minimize"), ("val/f1_macro", "maximize")])
def test_a_search_goes_where_values_are_better(tmp_path, monitor, direction):
    compose_config("train", "sweep=search", f"monitor={monitor}", f"run_dir={tmp_path}")
    assert HydraConfig.get().sweeper.direction == direction
