"""The student project's set-up and each of its defects, on synthetic faces and weights with the official names."""

import cv2
import pandas as pd
import pytest
import torch

from src.data.faces.generator import draw_face
from src.engine.build import build_data, plain
from src.engine.evaluate import evaluate
from src.engine.fit import fit_and_test
from src.models.emonet import EmoNet
from src.models.weights import load_weights
from tests.data.datasets.test_fer2013 import KAGGLE, text
from tests.helpers.image_files import encoded, write
from tests.helpers.running import compose_config, read_checkpoint, tiny_config

USAGES = {"Training": ("train", 8), "PublicTest": ("valid", 7), "PrivateTest": ("test", 7)}
DEFECTS = {
    "backbone.normalize": "imagenet",
    "callbacks.train_mode_once.enabled": "true",
    "transform.vertical_flip": "0.5",
    "data.dedup": "false",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """FER2013's CSV; MMAFEDB with the same faces, as JPEG files, and others in color; EmoNet's weights, random."""
    root = tmp_path_factory.mktemp("sources")
    rows, number = ["emotion,pixels,Usage"], 0
    for usage, (split, n) in USAGES.items():
        for i in range(n):
            label = KAGGLE[i % 7]
            gray = draw_face(3, number, 48, grayscale=True).image[..., 0]
            rows.append(f"{KAGGLE.index(label)},{text(gray.ravel())},{usage}")
            jpeg = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            write(root / "MMAFEDB" / split / label / f"fer_{number}.jpg", jpeg)
            color = draw_face(4, number, 60).image
            write(root / "MMAFEDB" / split / label / f"expw_{number}.png", encoded(color))
            number += 1
    (root / "fer2013.csv").write_text("\n".join([*rows, ""]))
    torch.manual_seed(0)
    state = EmoNet(8, width=16).state_dict()
    torch.save({f"module.{key}": value for key, value in state.items()}, root / "emonet_8.pth")
    return root


def parts(sources):
    return f"data.parts=[{{name: fer2013, path: {sources}/fer2013.csv}}, {{name: mmafedb, path: {sources}/MMAFEDB}}]"


def study(sources, run_dir, data_dir, *overrides):
    small = ["data.image_size=64", "data.batch_size=8", "trainer.precision=32"]
    options = [*small, f"backbone.weights={sources}/emonet_8.pth", parts(sources), *overrides]
    return tiny_config(run_dir, data_dir, "experiment=student_baseline", *options, "data=combined")


def backbone(run_dir, name="last"):
    state = read_checkpoint(run_dir, name)["state_dict"]
    return {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}


def moved(state, official):
    """Return the entries that differ from the official weights."""
    return [key for key, value in state.items() if not torch.equal(value, official[f"module.{key}"])]


def test_it_is_the_student_projects(tmp_path):
    cfg = compose_config("train", "experiment=student_baseline", f"run_dir={tmp_path}")
    assert (cfg.backbone.name, cfg.backbone.image_size, cfg.backbone.freeze) == ("emonet_8", 256, "all")
    assert (cfg.head.tap, cfg.data.name, cfg.data.batch_size) == ("fused", "combined", 32)
    assert (cfg.optimizer._target_, cfg.optimizer.lr) == ("torch.optim.Adam", 1e-3)
    assert (cfg.trainer.max_epochs, cfg.callbacks.early_stopping.patience) == (50, 5)
    assert cfg.backbone.normalize is None
    assert not cfg.callbacks.train_mode_once.enabled
    assert cfg.transform.vertical_flip == 0
    assert cfg.data.dedup


def test_without_its_defects(sources, tmp_path, data_dir):
    results = fit_and_test(study(sources, tmp_path / "run", data_dir))
    official = torch.load(sources / "emonet_8.pth", weights_only=True)
    assert moved(backbone(tmp_path / "run"), official) == []
    spec = load_weights(tmp_path / "run" / "checkpoints" / "best.ckpt").spec
    assert (spec.normalize, spec.class_names[-1]) == (None, "angry")
    assert results["test/n"] == 14
    ids = pd.read_csv(tmp_path / "run" / "predictions.csv")["id"]
    assert sum(ids.str.startswith("fer2013/")) == 7, "of the copies, FER2013's own image stays"


def test_with_all_its_defects(sources, tmp_path, data_dir):
    options = [f"{key}={value}" for key, value in DEFECTS.items()]
    cfg = study(sources, tmp_path / "run", data_dir, *options, "trainer.max_epochs=1")
    results = fit_and_test(cfg)
    assert results["test/n"] == 21
    data = build_data(cfg, transform=plain(cfg.transform), image_size=64)
    assert len(data.split_rows("train")[0]) == 24
    assert data.transform.vertical_flip == 0.5

    # The statistics of the frozen backbone drift, and nothing else of it; in a second epoch nothing does.
    official = torch.load(sources / "emonet_8.pth", weights_only=True)
    first = backbone(tmp_path / "run")
    assert {key.rsplit(".", 1)[-1] for key in moved(first, official)} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    before = read_checkpoint(tmp_path / "run")["state_dict"]
    longer = study(sources, tmp_path / "run", data_dir, *options, "trainer.max_epochs=2", "ckpt_path=last")
    results = fit_and_test(longer)
    again = read_checkpoint(tmp_path / "run")["state_dict"]
    after = {key: torch.equal(value, before[key]) for key, value in again.items()}
    assert all(equal for key, equal in after.items() if "running" in key)
    assert not after["head.classify.weight"]

    # Whoever tests the model normalizes as it was trained.
    own = [f"ckpt_path={tmp_path / 'run'}", "data=combined", "data.dedup=false", parts(sources)]
    common = ["trainer=cpu", "trainer.enable_progress_bar=false", f"run_dir={tmp_path}", f"data_dir={data_dir}"]
    tested = evaluate(compose_config("eval", *common, "trainer.precision=32", *own))
    ours, theirs = (pd.read_csv(folder / "predictions.csv") for folder in (tmp_path, tmp_path / "run"))
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-6)
    assert tested["test/n"] == 21
