import math

import pytest

from src.reports.numbers import brackets, shown_metric, with_interval

BOUNDS = (0.6978, 0.7271)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "0.7130"),
        ({"bounds": BOUNDS}, "0.7130 [0.698, 0.727]"),
        ({"bounds": BOUNDS, "spread": 0.0042}, "0.7130 ± 0.0042 [0.698, 0.727]"),
        ({"bounds": BOUNDS, "spread": math.nan}, "0.7130 [0.698, 0.727]"),
        ({"percent": True}, "71.3 %"),
        ({"bounds": BOUNDS, "percent": True}, "71.3 % [69.8, 72.7]"),
        ({"bounds": BOUNDS, "spread": 0.0042, "percent": True}, "71.3 ± 0.4 % [69.8, 72.7]"),
    ],
)
def test_one_style(options, expected):
    assert with_interval(0.713, **options) == expected


def test_differences_have_signs():
    assert brackets((-0.21, 0.8), "+.2f") == "[-0.21, +0.80]"


def test_numbers_of_a_run():
    metrics = {"test/accuracy": 0.713, "test/accuracy_ci95": list(BOUNDS), "test/ece": 0.05, "test/n": 3589}
    assert shown_metric(metrics, "test/accuracy") == "0.7130 [0.698, 0.727]"
    assert shown_metric(metrics, "test/accuracy", percent=True) == "71.3 % [69.8, 72.7]"
    assert shown_metric(metrics, "test/ece") == "0.0500"
    assert shown_metric(metrics, "test/n") == "3,589"
    assert shown_metric({**metrics, "test/kappa": None}, "test/kappa") == "-"
    assert shown_metric(metrics, "test/f1_macro") == "-"
