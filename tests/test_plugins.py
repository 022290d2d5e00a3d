"""A head that lives in another package, from its first training to a released file."""

import json
import os
import shutil
import sys

import pytest
import torch

from src.data.faces.generator import draw_face
from src.engine.export import export
from src.engine.release import release
from src.inference import EmotionPredictor
from src.models import registry
from src.models.weights import load_weights
from src.utils.errors import ConfigError
from src.web.models import ModelShelf
from tests.cli.test_cli import environment
from tests.helpers.forking import run_forked
from tests.helpers.running import NO_FIGURES, TINY, TINY_DATA, compose_config

PLUGIN = "faces_of_mine.any_pool"
# Each argument changes what the head computes, so that one that got lost is noticed.
HEAD = """
import torch
from torch import nn

from src.models.heads.base import Head
from src.models.registry import register_head


@register_head("any_pool")
class AnyPoolHead(Head):
    def __init__(self, *, pooling="mean", hidden=8, scales=(1.0,), double=False, **features):
        super().__init__(**features)
        self.pooling, self.scales, self.double = pooling, scales, double
        self.reduce = nn.Identity() if hidden is None else nn.Conv2d(self.channels, hidden, 1)
        self.classify = nn.Linear(len(scales) * (hidden or self.channels), self.n_outputs)

    def forward(self, features):
        maps = self.reduce(features).flatten(2)
        pooled = maps.amax(dim=2) if self.pooling == "max" else maps.mean(dim=2)
        outputs = self.classify(torch.cat([pooled * scale for scale in self.scales], dim=1))
        return 2 * outputs if self.double else outputs
"""
YAML = f"""
defaults: [default]

_target_: {PLUGIN}.AnyPoolHead
name: any_pool
pooling: max
hidden: null
scales: [0.5, 2, 1.0]
double: true
"""
ARGUMENTS = {"pooling": "max", "hidden": None, "scales": [0.5, 2, 1.0], "double": True}


def add_plugin_folder():
    """Let a command find the package, as PYTHONPATH would."""
    sys.path.insert(0, os.environ["PLUGIN_FOLDER"])


def command(entry, plugin_folder, *options):
    variables = environment(PLUGIN_FOLDER=str(plugin_folder))
    return run_forked(f"src.{entry}", *options, env=variables, before=add_plugin_folder)


@pytest.fixture(scope="module")
def plugin_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    for path, content in {
        "faces_of_mine/__init__.py": "",
        "faces_of_mine/any_pool.py": HEAD,
        "conf/head/any_pool.yaml": YAML,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


@pytest.fixture(scope="module")
def trained(plugin_folder, tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    done = command("train", plugin_folder, *training(plugin_folder, run_dir, data_dir))
    assert done.returncode == 0, done.stderr
    return run_dir


def training(plugin_folder, run_dir, data_dir, epochs=1):
    options = [option for option in TINY if not option.startswith("trainer.max_epochs")]
    chosen = ["head=any_pool", f"plugins=[{PLUGIN}]", f"trainer.max_epochs={epochs}"]
    folders = [f"hydra.run.dir={run_dir}", f"data_dir={data_dir}"]
    return [f"--config-dir={plugin_folder / 'conf'}", *options, *chosen, *folders]


@pytest.fixture
def importable(plugin_folder, monkeypatch):
    """Let this process find the package, and forget it afterwards."""
    registry.head_class("linear")  # ours stay
    monkeypatch.setattr(registry, "_heads", dict(registry._heads))
    monkeypatch.syspath_prepend(plugin_folder)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "faces_of_mine"]:
        del sys.modules[name]


def evaluation(run_dir, trained, data_dir, *options):
    files = [f"ckpt_path={trained / 'checkpoints' / 'best.ckpt'}", f"hydra.run.dir={run_dir}", f"data_dir={data_dir}"]
    return ["trainer=cpu", "trainer.enable_progress_bar=false", "compile=false", *NO_FIGURES, *files, *options]


def test_a_checkpoint_gives_the_numbers_of_its_training(plugin_folder, trained, tmp_path, data_dir):
    done = command("eval", plugin_folder, *evaluation(tmp_path / "run", trained, data_dir, f"plugins=[{PLUGIN}]"))
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", trained))
    compared = [key for key in theirs if key.startswith("test/") and key != "test/loss"]
    assert len(compared) > 15
    for key in compared:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6), key


def test_a_checkpoint_does_not_say_where_its_code_is(plugin_folder, trained, tmp_path, data_dir):
    done = command("eval", plugin_folder, *evaluation(tmp_path / "run", trained, data_dir))
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if "Error:" in line]
    for part in ("head='any_pool' is unknown", "plugins=[", "the module that registers it"):
        assert part in message
    assert "Traceback" not in done.stderr


def test_it_is_resumed(plugin_folder, trained, tmp_path, data_dir):
    run_dir = tmp_path / "run"
    shutil.copytree(trained, run_dir)
    done = command("train", plugin_folder, *training(plugin_folder, run_dir, data_dir, epochs=2), "ckpt_path=last")
    assert done.returncode == 0, done.stderr
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["epoch"] == 1
    assert {key: content["model_spec"]["head"][key] for key in ARGUMENTS} == ARGUMENTS


def test_it_predicts(trained, importable):
    with pytest.raises(ConfigError, match="head='any_pool' is unknown"):
        EmotionPredictor(trained, detector="none", backend="torch")
    predictor = EmotionPredictor(trained, detector="none", backend="torch", plugins=[PLUGIN])
    assert ModelShelf([str(trained)], detector="none", plugins=[PLUGIN]).choices
    (face,) = predictor.predict(draw_face(0, 0).image).faces
    assert sum(face.probabilities.values()) == pytest.approx(1)


@pytest.fixture
def released(trained, importable, tmp_path):
    """The trained head as released weights."""
    release(compose_config("release", f"ckpt_path={trained}", f"folder={tmp_path}", "name=own", f"plugins=[{PLUGIN}]"))
    return tmp_path / "own.safetensors"


def test_it_is_released(trained, released):
    assert load_weights(released).spec.head == {
        "name": "any_pool",
        "tap": "fused",
        "valence_arousal": False,
        **ARGUMENTS,
    }
    image = draw_face(0, 0).image
    ours, theirs = (
        EmotionPredictor(weights, detector="none", backend="torch", precision="32-true", plugins=PLUGIN)
        .predict(image)
        .faces[0]
        .probabilities
        for weights in (released, trained)
    )
    assert ours == pytest.approx(theirs, abs=1e-2)  # it is in half precision


@pytest.mark.slow
def test_it_is_exported(released, tmp_path, data_dir):
    (tmp_path / "export").mkdir()
    places = [f"run_dir={tmp_path / 'export'}", f"data_dir={data_dir}"]
    options = [*places, "data=synthetic", *TINY_DATA, f"plugins=[{PLUGIN}]"]
    (row,) = export(compose_config("export", f"ckpt_path={released}", *options))
    assert row.passed


def test_a_module_that_is_not_there_is_named():
    for module in ("faces_of_nobody.heads", "src.models.nothing", "", "a b", ".relative"):
        with pytest.raises(ConfigError, match=r"plugins=.* cannot be imported .* expected a module"):
            registry.load_plugins([module])


def test_what_a_module_lacks_is_not_mistaken_for_it(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        registry.load_plugins("needs_more")
