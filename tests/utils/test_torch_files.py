"""Torch files of strangers take no more memory than they have bytes, and no time."""

from __future__ import annotations

import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from src.utils.errors import ConfigError
from src.utils.torch_files import MAX_VALUES, read_checkpoint


class Bytearray:
    """Becomes a bytearray of any size when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**36,)


def nested(levels: int, width: int) -> tuple[Any, ...]:
    values: tuple[Any, ...] = (1,)
    for _ in range(levels):
        values = (values,) * width
    return values


def key_of(values: tuple[Any, ...]) -> bytes:
    """Return a pickle of a dictionary with a key that takes too long to be made one here."""
    content = pickle.dumps(values, 2)
    return b"\x80\x02}" + content[2:-1] + b"K\x01s."


BOMBS: dict[str, bytes | dict[str, Any]] = {
    "a bytearray": {"a": Bytearray()},
    "a key that is never made": key_of(nested(60, 2)),
    "a key of many copies": key_of(nested(12, 9)),
    "a key of endless depth": b"\x80\x02}K\x01" + b"\x85" * 500_000 + b"K\x01s.",
    "a tensor of one number": {"a": torch.zeros(1).expand(2**20, 2**20)},
    "a sparse tensor": {"a": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,))},
    "a tensor on no device": {"a": torch.zeros(2**20, device="meta")},
    "complex numbers": {"a": torch.zeros(2, dtype=torch.complex64)},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_files_that_would_take_any_time_or_memory_are_refused(
    tmp_path: Path, content: bytes | dict[str, Any], legacy: bool
) -> None:
    path = tmp_path / "a.ckpt"
    given = content if isinstance(content, dict) else {}
    torch.save(given, path, pickle_protocol=2, _use_new_zipfile_serialization=not legacy)
    if isinstance(content, bytes):
        plain = pickle.dumps({}, 2)
        if legacy:
            path.write_bytes(path.read_bytes().replace(plain, content, 1))
        else:
            with zipfile.ZipFile(path) as bundle:
                members = {name: bundle.read(name) for name in bundle.namelist()}
            with zipfile.ZipFile(path, "w") as bundle:
                for name, data in members.items():
                    bundle.writestr(name, content if name.endswith("data.pkl") else data)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"a\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(path)
    assert time.monotonic() - start < 5


def test_packed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(2**20)}, path)
    with zipfile.ZipFile(path) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    with pytest.raises(ConfigError, match="it unpacks to more than it has"):
        read_checkpoint(path)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ckpt")
    for path in (tmp_path / "a.ckpt", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a file"):
            read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_writes_is_read(tmp_path: Path, legacy: bool) -> None:
    betas = (0.9, 0.999)
    groups = [{"lr": 0.1, "betas": betas, "params": [i]} for i in range(40)]
    part = torch.rand(4, 6)
    content = {
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": groups}],
        "view": part[:, 1:3],
        "half": part.half(),
        "names": [f"name {i}" for i in range(MAX_VALUES)],
        "plain": {"a": None, "b": True, 3: -(2**40), "c": 1.5, "set": {1, 2}},
    }
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(read["view"], part[:, 1:3])
    assert (read["names"], read["plain"]) == (content["names"], content["plain"])
    assert read["optimizer_states"][0]["param_groups"] == groups
