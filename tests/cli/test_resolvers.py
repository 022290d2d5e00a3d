import re

import pytest

from src.cli.resolvers import SWEPT_KEYS, job_name, run_name
from src.utils.paths import plain_name


def test_run_names():
    assert run_name("train", {"head": "linear", "data": "fer2013", "loss": "focal"}) == "linear_fer2013"
    assert run_name("eval", {"head": None, "data": "fer2013"}) == "eval_fer2013"


def test_job_names_hold_the_swept_overrides(monkeypatch):
    monkeypatch.setenv(SWEPT_KEYS, "head,seed")
    assert job_name(3, ["head=multihead", "data.path=/a/b", "seed=1"]) == "3_head-multihead_seed-1"


@pytest.mark.parametrize("text", ["it's", "a b", "x=1,y=[2]", "fáce", "~/a", "é" * 300, "a/" * 90])
def test_names_need_no_quotes(text):
    assert re.fullmatch(r"[A-Za-z0-9._-]{0,100}", plain_name(text))


@pytest.mark.parametrize(
    ("text", "name"),
    [("lr=1.", "lr-1"), ("a" * 99 + ".b", "a" * 99), ("nul", "_nul"), ("Aux.jpg", "_Aux.jpg"), ("console", "console")],
)
def test_names_are_legal_on_windows(text, name):
    assert plain_name(text) == name
