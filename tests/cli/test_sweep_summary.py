"""The page that a sweep writes about itself."""

import re

import pandas as pd

from src.cli.sweep_summary import write_page


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
