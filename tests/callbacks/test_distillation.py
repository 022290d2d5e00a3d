from itertools import product

import pytest
import torch

from src.callbacks.distillation import Distillation
from src.engine.fit import fit_and_test
from src.models.weights import load_weights
from src.utils.errors import ConfigError
from tests.helpers.image_files import write
from tests.helpers.running import read_checkpoint, tiny_config

SEVEN = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
DISTILL = ["callbacks=distillation", "trainer.max_epochs=1", "test=false", "trainer.precision=32-true"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("teacher")
    fit_and_test(tiny_config(run_dir, data_dir, "trainer.max_epochs=1", "test=false"))
    return run_dir


def student(folder, data_dir, teacher, *options):
    cfg = tiny_config(folder, data_dir, *DISTILL, f"callbacks.distillation.teacher={teacher}", "head=emonet", *options)
    fit_and_test(cfg)
    return read_checkpoint(folder)["state_dict"]


@pytest.mark.parametrize("n_teachers", [1, 2])
def test_the_targets_are_label_and_teachers(tmp_path, data_dir, teacher, monkeypatch, n_teachers):
    """Several teachers are the mean of their probabilities."""
    seen, teachers = [], [str(teacher)]
    if n_teachers == 2:
        fit_and_test(tiny_config(tmp_path / "other", data_dir, "trainer.max_epochs=1", "test=false", "seed=9"))
        teachers.append(str(tmp_path / "other"))
    original = Distillation.on_train_batch_start

    def watch(self, trainer, pl_module, batch, batch_idx):
        label = torch.nn.functional.one_hot(batch["label"], 7)
        original(self, trainer, pl_module, batch, batch_idx)
        with torch.no_grad():
            taught = sum((model(batch["image"]).logits / 3).softmax(1) for model, _ in self._teachers) / n_teachers
        seen.append((batch["target"], 0.75 * label + 0.25 * taught))

    monkeypatch.setattr(Distillation, "on_train_batch_start", watch)
    state = student(
        tmp_path,
        data_dir,
        f"[{','.join(teachers)}]",
        "callbacks.distillation.weight=0.25",
        "callbacks.distillation.temperature=3",
    )
    assert len(seen) == 4
    for found, expected in seen:
        assert torch.allclose(found, expected, atol=1e-6)
        assert found.sum(dim=1) == pytest.approx(1, abs=1e-5)
    assert not any("teacher" in key for key in state)
    assert load_weights(tmp_path / "checkpoints" / "best.safetensors").spec.backbone["name"] == "emonet_tiny"


def test_a_teacher_of_another_size_gets_the_images_resized(tmp_path, data_dir, teacher, monkeypatch):
    seen = []
    original = Distillation.on_train_batch_start

    def watch(self, trainer, pl_module, batch, batch_idx):
        original(self, trainer, pl_module, batch, batch_idx)
        small = torch.nn.functional.interpolate(batch["image"], (64, 64), mode="bilinear", antialias=True)
        with torch.no_grad():
            taught = self._teachers[0][0](small).logits.softmax(1)
        seen.append((batch["image"].shape[-1], batch["target"], taught))

    monkeypatch.setattr(Distillation, "on_train_batch_start", watch)
    alone = ["callbacks.distillation.weight=1", "callbacks.distillation.temperature=1"]
    student(tmp_path, data_dir, teacher, *alone, "backbone.image_size=128", "trainer.limit_train_batches=1")
    ((size, found, taught),) = seen
    assert size == 128
    assert torch.allclose(found, taught, atol=1e-6)


def test_a_part_can_be_taught_by_the_teacher_alone(tmp_path, data_dir, teacher, monkeypatch):
    for key, (part, name, i) in enumerate(product("ab", SEVEN, range(4))):
        write(tmp_path / part / name / f"{i}.png", key=key)
    parts = ",".join(f"{{name: folder, path: {tmp_path / name}, split_seed: 1}}" for name in ("a", "b"))
    seen = []
    original = Distillation.on_train_batch_start

    def watch(self, trainer, pl_module, batch, batch_idx):
        label = torch.nn.functional.one_hot(batch["label"], 7)
        original(self, trainer, pl_module, batch, batch_idx)
        with torch.no_grad():
            taught = self._teachers[0][0](batch["image"]).logits.softmax(1)
        second = [str(trainer.datamodule.store.ids[row]).startswith("folder_2/") for row in batch["row"]]
        seen.extend(zip(second, batch["target"], 0.5 * label + 0.5 * taught, taught, strict=True))

    monkeypatch.setattr(Distillation, "on_train_batch_start", watch)
    options = ["data=combined", f"data.parts=[{parts}]", "data.batch_size=8", "callbacks.distillation.temperature=1"]
    student(tmp_path / "run", data_dir, teacher, *options, "callbacks.distillation.part_weights={folder_2: 1.0}")
    assert {second for second, *_ in seen} == {False, True}
    for second, found, both, taught in seen:
        assert torch.allclose(found, taught if second else both, atol=1e-6)


def test_without_weight_it_changes_nothing(tmp_path, data_dir, teacher):
    ours = student(tmp_path / "a", data_dir, teacher, "callbacks.distillation.weight=0")
    cfg = tiny_config(tmp_path / "b", data_dir, *DISTILL, "head=emonet", "callbacks=ema")
    fit_and_test(cfg)
    theirs = read_checkpoint(tmp_path / "b")["state_dict"]
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.allclose(value.float(), theirs[key].float(), atol=1e-5), key


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("callbacks.distillation.weight=2", "weight=2; expected a fraction"),
        ("callbacks.distillation.part_weights={folder: 2}", r"part_weights.folder=2; expected a fraction"),
        ("callbacks.distillation.part_weights={folder: 1.0}", r"has folder, but data=synthetic has the parts \(none\)"),
        ("callbacks.distillation.temperature=0", "temperature=0; expected a number above 0"),
        ("callbacks.distillation.teacher=[]", r"teacher=\[\]; expected at least one"),
        ("data.draw_gray=true", "grayscale=False.*expected neutral"),
        ("callbacks.distillation.teacher=nowhere", "callbacks.distillation.teacher=nowhere does not exist"),
    ],
)
def test_mistakes_are_named(tmp_path, data_dir, teacher, option, message):
    with pytest.raises(Exception, match=message) as caught:
        student(tmp_path, data_dir, teacher, option)
    assert isinstance(caught.value, ConfigError) or isinstance(caught.value.__cause__, ConfigError)
