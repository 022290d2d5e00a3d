"""Configurations of strangers: read in bounded time, or refused with the file, the reason and the remedy."""

import time

import pytest

from src.runs.config import read_config
from src.utils.errors import ConfigError

BOMBS = {
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\n"
    + "".join(f"{c}: &{c} [*{d}, *{d}]\n" for c, d in zip("cdefghij", "bcdefghi", strict=True)),
    "an alias of itself": "a: &a [*a]",
    "endless depth": "a: " + "[" * 5000,
    "endless length": "a: 1\n" * 100_000,
    "a tag": "a: !!python/object/apply:os.system [touch marker]",
    "a list": "- a",
    "half an interpolation": "a: ${b",
    "bytes": b"\xff\xfe",
    "two keys": "a: 1\na: 2",
    "a number without end": "a: " + "9" * 10_000,
    "a list for a name": "head: {name: linear}\ndata: [1]",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_bombs_and_broken_files_are_refused(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"config\.yaml is broken: .*Repeat that run, or leave it out"):
        read_config(tmp_path)
    assert time.monotonic() - start < 5


def test_values_are_taken_as_they_stand(tmp_path):
    assert read_config(tmp_path) == {}
    (tmp_path / "config.yaml").write_text(
        "seed: 1\nlr: 1e-3\nhead: {name: linear}\nplace: ${oc.env:HOME}\nnone: null\n"
    )
    expected = {"seed": 1, "lr": 0.001, "head": {"name": "linear"}, "place": "${oc.env:HOME}", "none": None}
    assert read_config(tmp_path) == expected
