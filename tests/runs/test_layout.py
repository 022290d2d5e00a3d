"""The names of a run directory: where they mean a file, and that nobody else spells them."""

import ast

import pytest

from src.runs import layout
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.running import compose_config

NAMES = {value for key, value in vars(layout).items() if key.isupper() and not value.startswith(".")}
NAMES |= {value.rpartition("/")[2] for value in NAMES}
# The folders of parts are called as what is in them, which others may name.
NAMES -= {layout.PREDICTION_PARTS, layout.ITEM_PARTS, layout.PEOPLE_PARTS}
FILES = [path for folder in ("src", "studies") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / layout.CHECKPOINTS).mkdir()
    (tmp_path / layout.BEST_CHECKPOINT).touch()
    return tmp_path


def test_a_run_directory_means_its_best_checkpoint(run_dir):
    path = run_dir / "checkpoints" / "best.ckpt"
    assert layout.find_checkpoint(str(run_dir)) == path
    assert layout.find_checkpoint(str(path)) == path
    with pytest.raises(ConfigError, match=r"holds no checkpoints/last\.ckpt"):
        layout.find_checkpoint(str(run_dir), layout.LAST_CHECKPOINT)
    with pytest.raises(ConfigError, match=r"ckpt_path=.*nowhere does not exist; expected a run directory"):
        layout.find_checkpoint(str(run_dir / "nowhere"))


def test_a_checkpoint_belongs_to_a_run(run_dir):
    assert layout.run_of(str(run_dir)) == layout.run_of(run_dir / layout.BEST_CHECKPOINT) == run_dir


def spelled(source):
    """Return the names of a run directory that a module spells, alone or in a pattern such as `*/status.json`."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and text.removeprefix("*").removeprefix("/") in NAMES}


def test_nobody_else_spells_the_names():
    found = {path.relative_to(ROOT).as_posix(): spelled(path.read_text(encoding="utf-8")) for path in FILES}
    assert {path for path, names in found.items() if names} == {"src/runs/layout.py"}


def test_the_configuration_names_the_same_places(tmp_path):
    cfg = compose_config("train", "sweep=search", f"run_dir={tmp_path}")
    assert {cfg.callbacks[name].dirpath for name in ("best", "last")} == {str(tmp_path / layout.CHECKPOINTS)}
    search = (ROOT / "conf" / "sweep" / "search.yaml").read_text(encoding="utf-8")
    assert f"/{layout.STUDY}\n" in search


def test_spelled_names_are_noticed():
    source = 'a = run_dir / "checkpoints" / "best.ckpt"\nb = sweep.glob("*/status.json")\nc = f"{run_dir}/metrics.json"'
    assert spelled(source) == {"checkpoints", "best.ckpt", "*/status.json", "/metrics.json"}
