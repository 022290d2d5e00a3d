"""The study of crops, on six synthetic faces."""

import json

from PIL import Image

from src.utils.paths import ROOT
from studies.crop_study import write_study
from tests.helpers.running import compose_config

DATA = ("data=synthetic", "data.n_train=28", "data.n_val=14", "data.n_test=7", "data.draw_size=64")


def test_every_condition_is_measured_and_drawn(tmp_path, data_dir):
    weights = ROOT / "pretrained" / "emonet_fer_small.safetensors"
    cfg = compose_config(
        "crop_study", *DATA, "n_images=6", f"ckpt_path={weights}", f"data_dir={data_dir}", f"run_dir={tmp_path}"
    )
    result = write_study(cfg)
    assert json.loads((tmp_path / "crop_study.json").read_text()) == result
    assert result["images"] == 6
    assert 3 <= result["found"] <= 6
    accuracies = {name: points for name, points in result.items() if isinstance(points, dict) and name != "sharpness"}
    assert len(accuracies) == 10
    assert all(0 <= value <= 100 for points in accuracies.values() for value in points.values())
    assert any(value > 0 for points in accuracies.values() for value in points.values())
    # Without a change, all are the accuracy of the detector's own crop.
    plain = accuracies["shift right"]["0"]
    assert plain == accuracies["blur"]["0"] == accuracies["roll, turned upright"]["0"]
    sharpness = list(result["sharpness"].values())
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > sharpness[-1]
    with Image.open(tmp_path / "crop_study.png") as figure:
        assert figure.width > 1000
