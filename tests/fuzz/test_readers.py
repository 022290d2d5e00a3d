"""Whatever a file holds, its reader returns something of the kind it promises, or refuses the file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.data.audit.audit import Audit
from src.data.readers.archives import open_archive, open_table
from src.data.readers.images import UnreadableImage, decode_image
from src.data.readers.video import UnreadableVideo, read_video
from src.data.store.packed_store import Description
from src.engine.resume import Checkpoint
from src.inference.listings import listed_names
from src.inference.onnx_operators import operators
from src.inference.parts import Parts
from src.inference.sources import Shard, find_sources
from src.models.onnx_metadata import SPEC_KEY, read_metadata
from src.models.spec import ModelSpec
from src.models.weights import peek_spec
from src.runs.config import read_config
from src.runs.finished import Run
from src.runs.records import Config, Metrics, Provenance, Status
from src.utils.arrays import read_array, read_arrays
from src.utils.errors import ConfigError
from src.utils.schemas import checked, read_json
from src.utils.torch_files import read_checkpoint
from tests.exporting.tiny import tiny_model

# The same examples each time: the campaign is what looks for new ones.
quick = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
STARTS = (
    b"",
    b"PK\x03\x04",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF89a",
    b"\x93NUMPY\x01\x00",
    b"\x80\x02}",
    b"{",
    b"a,b\n",
    b"path\n",
    b"source,status,faces\na,ok,1\n",
)
contents = st.builds(lambda start, rest: start + rest, st.sampled_from(STARTS), st.binary(max_size=400))
numbers = st.integers() | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def listed(path: Path) -> None:
    with open_archive(path, "data.path", "images") as members:
        for member in members or ():
            with member.opener() as file:
                file.read(100)


def rows(path: Path) -> None:
    with open_table(path, "data.path", "a table") as lines:
        list(lines)


def config(path: Path) -> None:
    path.rename(path.with_name("config.yaml"))
    assert isinstance(read_config(path.parent), dict)


def run(path: Path) -> None:
    (path.parent / "metrics.json").write_text('{"test/accuracy": 0.5}')
    path.rename(path.with_name("predictions.csv"))
    Run.read(path.parent)


def video(path: Path) -> None:
    list(find_sources(str(path)))
    list(read_video(path))


def paths(path: Path) -> None:
    for suffix in (".txt", ".csv"):
        assert all(isinstance(name, str) for name in listed_names(path.rename(path.with_suffix(suffix))))
        path = path.with_suffix(suffix)


def parts(path: Path) -> None:
    known = Parts(path.parent, Shard(0, 1), "csv")
    place = known.path("items", 0)
    place.parent.mkdir()
    path.rename(place)
    assert all(int(row["faces"]) >= 0 and row["source"] is not None for row in known.items(0))


READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "images": (decode_image, UnreadableImage),
    "videos": (video, UnreadableVideo),
    "archives": (listed, ConfigError),
    "tables": (rows, ConfigError),
    "lists of paths": (paths, ConfigError),
    "parts": (parts, ConfigError),
    "configurations": (config, ConfigError),
    "predictions": (run, ConfigError),
    "arrays": (read_array, ValueError),
    "archives of arrays": (read_arrays, ValueError),
    "torch files": (read_checkpoint, ConfigError),
    "safetensors": (peek_spec, ConfigError),
    "operators": (lambda path: list(operators(path.read_bytes())), ValueError),
    "JSON": (read_json, ConfigError),
}


@pytest.mark.parametrize("kind", READERS)
@quick
@given(content=contents)
def test_bytes_are_read_or_refused(kind: str, content: bytes) -> None:
    read, refusal = READERS[kind]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.gif"
        path.write_bytes(content)
        with contextlib.suppress(refusal):
            read(path)


SCHEMAS: dict[str, Any] = {
    **{"status.json": Status, "provenance.json": Provenance, "metrics.json": Metrics, "config.yaml": Config},
    **{"store.json": Description, "checksums.json": dict[str, list[int]], "sources.json": dict[str, str]},
    **{"last.ckpt": Checkpoint, "audit.json": Audit},
}


@pytest.mark.parametrize("name", SCHEMAS)
@quick
@given(content=values)
def test_values_are_of_the_kind_or_refused_by_name(name: str, content: object) -> None:
    try:
        checked(SCHEMAS[name], content, name, "Make it anew.")
    except ConfigError as error:
        assert str(error).startswith(f"{name} is broken: ")
        assert str(error).endswith("Make it anew.")


DESCRIPTION = tiny_model("multihead").spec.to_dict()
FIELDS = [*((key,) for key in DESCRIPTION), *(("backbone", key) for key in DESCRIPTION["backbone"])]
FIELDS += [("head", key) for key in DESCRIPTION["head"]]


@settings(quick, max_examples=150)
@given(field=st.sampled_from(FIELDS), value=values)
def test_descriptions_make_a_model_or_are_refused(field: tuple[str, ...], value: object) -> None:
    content = json.loads(json.dumps(DESCRIPTION))
    place = content
    for key in field[:-1]:
        place = place[key]
    place[field[-1]] = value
    try:
        spec = ModelSpec.from_dict(content)
        spec.build_backbone()
        spec.build_head()
        assert isinstance(spec.terms, str)
        assert read_metadata({SPEC_KEY: json.dumps(spec.to_dict())}, "a file") == spec
    except ConfigError:
        pass
