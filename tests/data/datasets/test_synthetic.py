"""The fingerprint of synthetic faces."""

import ast
from pathlib import Path

import pytest

from src.engine.build import build_data, plain
from src.utils.paths import ROOT
from tests.helpers.running import compose_config


def imported(path: Path) -> set[Path]:
    """Return the files of `src` that a file imports, directly or through others, and itself."""
    found, queue = set(), [path]
    while queue:
        file = queue.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            places = (ROOT / name.replace(".", "/") for name in names if name.split(".")[0] == "src")
            queue += [file for place in places if (file := place.with_suffix(".py")).is_file()]
    return found


def generator_files() -> list[Path]:
    """Return what the synthetic data set imports and other data sets do not."""
    data = ROOT / "src" / "data"
    others = imported(data / "datamodule.py") | imported(data / "store" / "packed_store.py")
    return sorted(path for path in imported(data / "datasets" / "synthetic.py") - others if path.stat().st_size)


@pytest.fixture
def version(monkeypatch, tmp_path):
    """Return a function that gives the version of the generator if a file had another content."""
    cfg = compose_config("train", f"run_dir={tmp_path}", f"data_dir={tmp_path}")
    data = build_data(cfg, transform=plain(cfg.transform), image_size=64)
    read = Path.read_bytes

    def version_with(changed: Path | None) -> str:
        monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + b"#" * (self == changed))
        return data.store_options()["drawing"]

    return version_with


def test_every_file_of_the_generator_is_found():
    names = {path.stem for path in generator_files()}
    assert {"synthetic", "generator", "drawing", "parts", "photography"} <= names
    assert not {"store", "datamodule", "transforms"} & names


@pytest.mark.parametrize("path", generator_files(), ids=lambda path: path.stem)
def test_a_change_of_the_generator_is_another_data_set(version, path):
    assert version(path) != version(None)


def test_a_change_of_anything_else_is_not(version):
    assert version(ROOT / "src" / "data" / "transforms.py") == version(None)
