"""The panel of a sweep: a line a run, through the places of its values."""

import sys

import pandas as pd
import pytest
from PIL import Image

from studies.parallel_coordinates import main, parallel_plot

TABLE = pd.DataFrame(
    {
        "job": ["0", "1", "2", "3"],
        "state": ["finished"] * 3 + ["failed"],
        "reason": None,
        "head": ["linear", "multihead", "linear", "linear"],
        "optimizer.lr": [1e-4, 1e-3, 1e-2, 1e-2],
        "val/f1_macro": [0.2, 0.4, 0.6, None],
    }
)


def test_lines_pass_through_the_values():
    figure = parallel_plot(TABLE, ["head", "optimizer.lr", "val/f1_macro"])
    lines = [patch.get_path().vertices[::3] for patch in figure.axes[0].patches]
    heights = [[y for _, y in line] for line in lines]
    assert heights == [pytest.approx([0, 0, 0]), pytest.approx([1, 0.5, 0.5]), pytest.approx([0, 1, 1])]
    assert [[x for x, _ in line] for line in lines] == [pytest.approx([0, 1, 2])] * 3


def test_from_a_sweep_to_an_image(tmp_path, monkeypatch):
    TABLE.to_csv(tmp_path / "summary.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["parallel_coordinates", str(tmp_path), str(tmp_path / "panel.png")])
    main()
    with Image.open(tmp_path / "panel.png") as drawn:
        assert drawn.width > 400
