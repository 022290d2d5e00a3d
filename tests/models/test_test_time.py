"""Tests of test-time augmentation."""

from __future__ import annotations

import pytest
import torch

from src.models.test_time import views
from tests.helpers.running import compose_config, tiny_config


@pytest.mark.parametrize(("mode", "n"), [("none", 1), ("flip", 2), ("crops", 12)])
def test_number_and_shape(mode, n):
    image = torch.rand(2, 3, 64, 64)
    result = views(image, mode)
    assert [view.shape for view in result] == [image.shape] * n
    assert torch.equal(result[0], image)
    for straight, mirrored in zip(result[::2], result[1::2], strict=False):
        assert torch.equal(straight.flip(-1), mirrored)


def test_crops_show_the_corners_and_the_center():
    image = torch.zeros(1, 3, 64, 64)
    for y, x, value in ((0, 0, 1.0), (0, -1, 2.0), (-1, 0, 3.0), (-1, -1, 4.0)):
        image[..., y, x] = value
    crops = views(image, "crops")[2::2]
    corners = torch.tensor([[float(c[0, 0, y, x]) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))] for c in crops])
    expected = torch.zeros(5, 4)
    expected[torch.arange(4), torch.arange(4)] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.equal(corners, expected)


def test_evaluation_averages_the_probabilities(tmp_path, data_dir):
    from src.engine.evaluate import evaluate as run_evaluation
    from src.engine.fit import fit_and_test
    from src.models.weights import build_from_weights, load_weights
    from src.runs.layout import find_checkpoint

    run_dir = tmp_path / "run"
    fit_and_test(tiny_config(run_dir, data_dir, "data.draw_gray=true"))
    import pandas as pd

    tables, results = {}, {}
    for mode in ("none", "flip"):
        folder = tmp_path / mode
        folder.mkdir()
        cfg = compose_config(
            "eval", f"ckpt_path={run_dir}", "data=synthetic", "data.draw_gray=true", "data.n_train=26", "data.n_val=14",
            "data.n_test=21", "trainer=cpu", "trainer.enable_progress_bar=false", f"tta={mode}", f"run_dir={folder}",
            f"data_dir={data_dir}",
        )  # fmt: skip
        results[mode] = run_evaluation(cfg)
        tables[mode] = pd.read_csv(folder / "predictions.csv")
    assert results["flip"]["test/accuracy_single_view"] == pytest.approx(results["none"]["test/accuracy"])
    model = build_from_weights(load_weights(find_checkpoint(str(run_dir)))).eval()
    names = list(model.spec.class_names)
    assert not tables["flip"][names].equals(tables["none"][names])
    from src.engine.build import build_data

    data = build_data(cfg, transform={"name": "none"}, image_size=64, grayscale=True)
    batch = next(iter(data.test_dataloader()))
    image = batch["image"] / 255
    with torch.no_grad():
        expected = torch.stack([model(view).logits.softmax(1) for view in (image, image.flip(-1))]).mean(0)
    found = torch.tensor(tables["flip"][names].to_numpy()[: len(expected)], dtype=torch.float32)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)
