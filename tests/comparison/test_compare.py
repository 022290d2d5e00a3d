import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from src.comparison.compare import compare_runs
from src.comparison.report import write_report
from src.utils.errors import ConfigError
from src.utils.run_directory import write_json
from tests.running import compose_config

CLASSES = ("happy", "sad", "angry")


def make_run(path: Path, head: str, seed: int, hits: float, n: int = 120):
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    predictions = np.where(rng.random(n) < hits, labels, (labels + 1) % 3)
    table = pd.DataFrame({"id": range(n), "split": "test", "label": [CLASSES[i] for i in labels]})
    table["prediction"], table["in_dedup"] = [CLASSES[i] for i in predictions], True
    for i, name in enumerate(CLASSES):
        table[name] = np.where(predictions == i, 0.8, 0.1)
    table.to_csv(path / "predictions.csv", index=False)
    write_json(path / "metrics.json", {"test/accuracy": 0.5, "val/f1_macro": 0.4, "test/n": n, "test/f1/sad": 0.25})
    write_json(path / "status.json", {"state": "finished"})
    cfg = {"task": "train", "seed": seed, "data": {"name": "<drawn>"}, "head": {"name": head}}
    OmegaConf.save(OmegaConf.create(cfg), path / "config.yaml")
    return path


def compare(tmp_path, *overrides):
    return compare_runs(compose_config("compare", f"run_dir={tmp_path}", *overrides))


def test_seeds_are_one_entry_and_the_page_needs_no_network(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"a{seed}", "linear", seed, 0.9)
        make_run(tmp_path / "runs" / f"b{seed}", "multihead", seed, 0.4)
    found = compare(tmp_path, f"runs={tmp_path}/runs/*")
    assert found.board["entry"].tolist() == ["head=linear", "head=multihead"]
    assert found.board["runs"].tolist() == [2, 2]
    own = [float((found.labels == p).mean()) for p in found.predictions(found.entries[0])]
    assert found.board["accuracy"][0] == pytest.approx(np.mean(own))
    assert found.board["accuracy_sd"][0] == pytest.approx(np.std(own, ddof=1))
    assert len(found.run_pairs) == 6
    html = (tmp_path / "comparison.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "&lt;drawn&gt;" in html
    assert "<drawn>" not in html


def test_other_test_sets_are_refused_and_named(tmp_path):
    make_run(tmp_path / "runs" / "a", "linear", 0, 0.9)
    make_run(tmp_path / "runs" / "b", "linear", 1, 0.9, n=90)
    with pytest.raises(ConfigError, match=r"(?s)2 different test sets.*120 test pictures.*: a.*90 test pictures.*: b"):
        compare(tmp_path, f"runs={tmp_path}/runs/*")


def test_no_runs_is_said(tmp_path):
    with pytest.raises(ConfigError, match="names no directory"):
        compare(tmp_path, f"runs={tmp_path}/none/*")


def test_the_report_of_one_run(tmp_path):
    run = make_run(tmp_path / "runs" / "a", "linear", 0, 0.5)
    html = write_report(run).read_text()
    for heading in ("Numbers", "Calibration", "Worst mistakes", "Configuration"):
        assert f"<h2>{heading}</h2>" in html
    assert not re.search(r'(src|href)="(?!data:)', html)
