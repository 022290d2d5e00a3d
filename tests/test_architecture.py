"""The direction of imports: each room of `src` knows only what lies below it."""

import ast
from pathlib import Path

import pytest

from src.utils.paths import ROOT

# From the top; rooms of one floor may know each other. The command line is for entry points alone.
FLOORS = (
    {"entry points"},
    {"cli"},
    {"benchmarks"},
    {"engine"},
    {"comparison", "explanation", "inference", "exporting", "web", "callbacks", "loggers"},
    {"reports", "runs"},
    {"data", "models"},
    {"metrics"},
    {"utils"},
)
HEIGHT = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted((ROOT / "src").rglob("*.py"))


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "src" / parts[1]).is_dir() else "entry points"


def imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def against_the_direction(own: str, names: list[str]) -> list[str]:
    """What a room imports that it must not know."""
    refused = []
    for name in names:
        if name.split(".")[0] in ("studies", "tests"):
            refused.append(name)
        elif name.startswith("src."):
            other = room(name)
            if HEIGHT[other] > HEIGHT[own] or ((own, other) in {("models", "data"), ("data", "models")}):
                refused.append(name)
    return refused


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    refused = against_the_direction(room(module), imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert not refused, f"{module} imports {', '.join(refused)}"


def test_cfg_stops_at_the_engine():
    below = set().union(*FLOORS[FLOORS.index({"engine"}) + 1 :])
    takers = set()
    for path in FILES:
        own = path.relative_to(ROOT)
        if room(".".join(own.with_suffix("").parts)) in below:
            names = imported(ast.parse(path.read_text(encoding="utf-8")))
            takers |= {own.as_posix() for name in names if name.partition(".")[0] == "omegaconf"}
            assert "omegaconf.DictConfig" not in names, own
    # These read and write files of configurations, and validation meets lists of OmegaConf on the command line.
    files = {"src/reports/run_report.py", "src/runs/config.py", "src/runs/directory.py", "src/utils/groups.py"}
    assert takers == files | {"src/utils/validation.py"}


def test_every_room_has_its_floor():
    rooms = {path.name for path in (ROOT / "src").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(HEIGHT) - {"entry points"}


def test_wrong_imports_are_noticed():
    assert against_the_direction("models", ["src.data.dataset.StoreDataset"])
    assert against_the_direction("utils", ["src.runs.directory.write_status"])
    assert against_the_direction("engine", ["src.train.main", "src.cli.job.run_job", "studies.head_study.page"])
    assert not against_the_direction("engine", ["src.models.spec.ModelSpec", "torch", "src.explanation.explainer"])
