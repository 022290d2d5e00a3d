"""Pickles of plain data load as pickle itself loads them; anything else is refused before it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.readers.safe_pickle import load_plain
from src.utils.errors import ConfigError

POINTS = np.random.default_rng(0).normal(size=(68, 2))
PLAIN = {
    "folder": "x",
    "1/a.jpg": {
        "expression": np.int64(3),
        "valence": np.float64(0.25),
        "correct": np.bool_(True),
        "swapped": POINTS.astype(">f4"),
        "columns": np.asfortranarray(POINTS),
        "names": np.array(["ab", "c"]),
        "list": POINTS.tolist(),
        "others": (None, 1.5, b"", b"\xff", {1, 2}, "é"),
    },
}


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_load_under_every_protocol(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(PLAIN, protocol))
    entry = load_plain(tmp_path / "a.pkl")["1/a.jpg"]
    for name, value in PLAIN["1/a.jpg"].items():  # type: ignore[attr-defined]
        np.testing.assert_equal(np.asarray(entry[name], dtype=object), np.asarray(value, dtype=object))


def test_names_of_numpy_1_and_2_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(POINTS, 2)
    for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        (tmp_path / "a.pkl").write_bytes(data.replace(old, new))
        assert np.array_equal(load_plain(tmp_path / "a.pkl"), POINTS)


@pytest.mark.parametrize(
    "thing",
    [
        _Runs(os.system, "touch marker"),
        _Runs(eval, "open('marker', 'w')"),
        _Runs(getattr, "x", "upper"),
        _Runs(np.ndarray, (1,), "O", b"\x41" * 8),
        _Runs(np.load, "marker"),
        np.array([{}], dtype=object),
        np.zeros(1, dtype=[("a", "i4")]),
        Path("x"),
    ],
    ids=["system", "eval", "getattr", "forged", "load", "objects", "records", "path"],
)
def test_anything_else_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: object
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"folder": thing}))
    with pytest.raises(ConfigError, match=r"a\.pkl is no pickle of plain data"):
        load_plain(tmp_path / "a.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


def test_a_codec_may_not_be_chosen(tmp_path: Path) -> None:
    import _codecs

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(_Runs(_codecs.encode, "x", "utf-8")))
    with pytest.raises(ConfigError, match=r"_codecs\.encode to 'utf-8'"):
        load_plain(tmp_path / "a.pkl")


def test_broken_files_are_an_error(tmp_path: Path) -> None:
    data = pickle.dumps(PLAIN)
    for content in (b"", b"text", data[:100], data[:-1]):
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(ConfigError, match="no pickle of plain data"):
            load_plain(tmp_path / "a.pkl")
