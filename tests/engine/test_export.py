import json
import os
import subprocess
import sys

import onnx
import pytest

from src.cli.validation import validate_config
from src.engine.export import export
from src.models.onnx_metadata import onnx_beside, read_origin
from src.models.weights import load_weights, save_safetensors, weights_digest
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.exporting.tiny import tiny_model
from tests.helpers.running import compose_config

DATA = ["data=synthetic", "data.draw_gray=true", "data.n_train=24", "data.n_val=21", "data.n_test=7"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_safetensors(tiny_model("multihead"), path)
    return path


def export_config(run_dir, data_dir, *overrides):
    run_dir.mkdir(exist_ok=True)
    return compose_config("export", f"run_dir={run_dir}", f"data_dir={data_dir}", *DATA, *overrides)


def test_nothing_is_put_beside_weights_of_the_hub(tmp_path, data_dir):
    with pytest.raises(ConfigError, match=r"onnx\.beside=true, but ckpt_path=hf://me/model lies in the cache"):
        export(export_config(tmp_path, data_dir, "ckpt_path=hf://me/model", "onnx.beside=true"))


def test_files_and_report(weights, tmp_path, data_dir, capsys):
    options = [f"ckpt_path={weights}", "onnx.precision=[fp32,int8]", "onnx.parity_pictures=14"]
    rows = export(export_config(tmp_path, data_dir, *options, "onnx.calibration_pictures=16", "onnx.beside=true"))
    report = json.loads((tmp_path / "parity.json").read_text())
    assert [entry["precision"] for entry in report["files"]] == ["fp32", "int8"]
    assert report["data"].startswith("synthetic-")
    exact, coarse = report["files"]
    assert exact["pictures"] == 14
    assert exact["passed"]
    assert exact["agreement"] == 1
    assert exact["accuracy"] == exact["accuracy_torch"]
    assert 0 < max(exact["differences"].values()) < 1e-4
    assert coarse["differences"]["probabilities"] > 1e-4
    assert coarse["megabytes"] < exact["megabytes"]
    for entry, row in zip(report["files"], rows, strict=True):
        assert (tmp_path / entry["file"]).stat().st_size / 1e6 == pytest.approx(entry["megabytes"], abs=0.01)
        assert entry["points_lost"] == row.points_lost
        beside = onnx.load(onnx_beside(weights, entry["precision"]))
        origin = read_origin({prop.key: prop.value for prop in beside.metadata_props})
        assert origin["weights"] == weights_digest(load_weights(weights).state)
        assert origin["parity"] == {
            "data": report["data"],
            "split": "val",
            "class_names": report["class_names"],
            **entry,
        }
    printed = capsys.readouterr().err
    for text in ("ONNX Runtime against PyTorch", "largest difference, valence", "kept", str(tmp_path)):
        assert text in printed.replace("\n", "") or text in printed


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("onnx.precision=fp8", r"onnx\.precision=fp8; expected fp32, fp16 or int8"),
        ("onnx.precision=[]", r"onnx\.precision=\[\]; expected"),
        ("onnx.extra_outputs=[gaze]", r"expected heatmap, landmarks"),
        ("onnx.calibration_pictures=0", r"expected a whole number of 1 or more"),
    ],
)
def test_wrong_options(tmp_path, data_dir, option, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(export_config(tmp_path, data_dir, option))


def test_without_a_model(tmp_path, data_dir):
    with pytest.raises(ConfigError, match="there is no model: set ckpt_path"):
        export(export_config(tmp_path, data_dir))


@pytest.mark.slow
@pytest.mark.skipif("FER2013_PATH" not in os.environ, reason="needs FER2013_PATH")
def test_shipped_weights_on_fer2013(tmp_path):
    """Every precision keeps its limit on all of PublicTest, as a user starts it."""
    options = ["ckpt_path=pretrained/emonet_fer.safetensors", "onnx.precision=[fp32,fp16,int8]"]
    data = ["data=fer2013", f"data.path={os.environ['FER2013_PATH']}", f"hydra.run.dir={tmp_path}"]
    command = [sys.executable, "-m", "src.export", *options, *data]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "parity.json").read_text())["files"]
    assert [entry["pictures"] for entry in report] == [3589] * 3
    assert max(report[0]["differences"].values()) <= 1e-4
    assert report[1]["agreement"] >= 0.995
    assert report[2]["accuracy_torch"] - report[2]["accuracy"] <= 0.01
