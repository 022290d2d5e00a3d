"""A wheel predicts away from the clone that it was built in."""

import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest
from PIL import Image

from src.data.faces.generator import draw_face
from src.utils.paths import ROOT

FOLDERS = ("src", "studies", "hydra_plugins", "conf", "pretrained")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build a wheel from a copy, as builds leave files in their tree, and unpack it."""
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    for name in FOLDERS:
        unwanted = shutil.ignore_patterns("__pycache__", "*.pth", ".*", "local")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "conf" / "local").mkdir()
    (source / "conf" / "local" / "mine.yaml").touch()
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:  # pure Python without scripts: to unpack it is to install it
        archive.extractall(site)
    return source, site


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_it_holds_what_the_commands_read(installed):
    source, site = installed
    expected = {path for path in files(source) if path.parts[0] in FOLDERS}
    expected = {path for path in expected if path.parts[:2] != ("conf", "local")}
    assert {path for path in files(site) if not path.parts[0].endswith(".dist-info")} == expected


def test_it_predicts_below_the_working_directory(installed, tmp_path):
    _, site = installed
    Image.fromarray(draw_face(5, 0, 128).image).save(tmp_path / "face.png")
    before = files(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "src.predict", "input=face.png", "detector=none"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.glob("outputs/predictions/*_face/predictions.csv")
    assert len(table.read_text().splitlines()) == 2
    assert files(site) == before
