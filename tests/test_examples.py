"""The examples of the page Extending: each alone, and all of them put where the page says, trained and evaluated."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from src.data.faces.generator import draw_face
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.documented import EXAMPLES, blocks, commands
from tests.helpers.running import TINY

PAGE = ROOT / "docs" / "extending.md"
CODES = {"NE": "neutral", "HA": "happy", "SA": "sad", "SU": "surprise", "FE": "fear", "DI": "disgust", "AN": "angry"}
SUBJECTS = ("KA", "KL", "KM", "MK", "NA")


def load(name):
    """Import an example without putting it into `src`."""
    (path,) = (EXAMPLES / "src").rglob(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def jaffe(tmp_path_factory):
    """An archive of JAFFE's layout: five subjects, a synthetic face a class, and a README."""
    path = tmp_path_factory.mktemp("jaffe") / "jaffe.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("jaffe/README", "about")
        for i, subject in enumerate(SUBJECTS):
            for j, (code, expression) in enumerate(CODES.items()):
                number = i * len(CODES) + j
                face = draw_face(3, number, 64, expression=expression).image
                Image.fromarray(face).convert("L").save(file := io.BytesIO(), "TIFF")
                archive.writestr(f"jaffe/{subject}.{code}1.{number}.tiff", file.getvalue())
    return path


def test_the_page_includes_every_example():
    included = set(re.findall(r'--8<-- "(.*)"', PAGE.read_text()))
    files = {path.relative_to(ROOT).as_posix() for path in EXAMPLES.rglob("*.*") if path.parent != EXAMPLES}
    assert included == {path for path in files if "__pycache__" not in path}
    for block in [*blocks(PAGE, "python"), *blocks(PAGE, "yaml")]:
        title = re.search(r'title="(.*)"', block.title)[1]
        assert f"examples/{title}" in block.text or (ROOT / title).is_file()


def test_gem_is_the_mean_at_an_exponent_of_1_and_nears_the_maximum():
    head = load("gem").GemHead(tap="fused", channels=8, side=4, n_classes=7, exponent=1)
    maps = torch.rand(2, 8, 4, 4)
    torch.testing.assert_close(head(maps), head.classify(maps.mean(dim=(2, 3))))
    head.exponent.data.fill_(200)
    torch.testing.assert_close(head(maps), head.classify(maps.amax(dim=(2, 3))), atol=2e-2, rtol=0)
    head(maps).sum().backward()
    assert head.exponent.grad is not None


def test_gem_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match=r"head\.exponent=0"):
        load("gem").GemHead(tap="fused", channels=8, side=4, n_classes=7, exponent=0)
    with pytest.raises(ConfigError, match=r"head\.tap=pooled"):
        load("gem").GemHead(tap="pooled", channels=8, side=1, n_classes=7)


def test_generalized_cross_entropy_lies_between_its_limits():
    loss = load("generalized_cross_entropy").GeneralizedCrossEntropy
    logits, target = torch.randn(6, 7), torch.tensor([0, 1, 2, 3, 4, 5])
    p = logits.softmax(dim=1)[range(6), target]
    torch.testing.assert_close(loss(class_counts=[], q=1)(logits, target), (1 - p).mean())
    torch.testing.assert_close(
        loss(class_counts=[], q=1e-4)(logits, target), F.cross_entropy(logits, target), rtol=1e-3, atol=0
    )
    soft = F.one_hot(target, 7).float()
    torch.testing.assert_close(loss(class_counts=[], q=0.7)(logits, soft), loss(class_counts=[], q=0.7)(logits, target))
    with pytest.raises(ConfigError, match=r"loss\.q=0"):
        loss(class_counts=[], q=0)


def build(path):
    keys = {"data_dir": str(path.parent), "image_size": 64, "transform": {"name": "none"}, "seed": 0}
    return load("jaffe").JaffeDataModule(
        name="jaffe", path=str(path), split_shares=[0.6, 0.2, 0.2], split_seed=0, **keys
    )


def test_jaffe_keeps_each_subject_in_one_split(jaffe):
    records = list(build(jaffe).records())
    assert len(records) == 35
    splits = {}
    for record in records:
        subject, code, _, _ = record.id.rpartition("/")[2].split(".")
        assert record.label == CODES[code[:2]]
        splits.setdefault(subject, set()).add(record.split)
    assert sorted(splits) == sorted(SUBJECTS)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val", "test"}


def test_jaffe_refuses_another_archive(tmp_path):
    with ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("README", "about")
    with pytest.raises(ConfigError, match=r"KA\.AN1\.39\.tiff"):
        list(build(tmp_path / "other.zip").records())


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the framework to which everything was added as the page says."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
        shutil.copytree(EXAMPLES / name, folder / name, dirs_exist_ok=True)
    metric, direction = (block for block in blocks(PAGE, "python") if "--8<--" not in block.text)
    path = folder / re.search(r'title="(.*)"', metric.title)[1]
    name = re.search(r": (\w+)\(", metric.text)[1]
    text = path.read_text()
    for old, new in (
        ("import (\n    Multi", f"import (\n    {name},\n    Multi"),
        ('        "kappa": ', f'        {metric.text.strip()}\n        "kappa": '),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    path = folder / re.search(r'title="(.*)"', direction.title)[1]
    head, text = path.read_text().split('    "kappa": ')
    path.write_text(f'{head}    {direction.text.strip()}\n    "kappa": {text}')
    return folder


BOTH = """
import runpy, sys
for module, *arguments in %r:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def start(folder, *commands):
    """Run modules one after the other in a process that sees the folder's `src`, which takes seconds to import."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment = {**kept, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BOTH % (commands,)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_s_training_runs_and_is_evaluated(extended, jaffe, tmp_path):
    (command,) = (one for one in commands(PAGE) if all(word in one for word in ("data=jaffe", "gem", "loss=")))
    training = command.replace("jaffe.zip", str(jaffe)).split()[2:]
    tiny = [option for option in TINY if not option.startswith("data.n_")]
    run = tmp_path / "run"
    options = [*tiny, "monitor=val/mcc", f"data_dir={tmp_path}", f"hydra.run.dir={run}"]
    evaluation = [f"ckpt_path={run}", f"data_dir={tmp_path}", f"hydra.run.dir={tmp_path / 'eval'}"]
    start(extended, [*training, *options], ["src.eval", *evaluation])
    trained, evaluated = (json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "eval"))
    for name in ("accuracy", "mcc", "n"):
        assert trained[f"test/{name}"] == evaluated[f"test/{name}"]
    assert "val/mcc" in trained
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert "head.exponent" in state
