"""The study of heads: tiny runs from the backbone to the page, and findings on runs whose truth is known."""

import re

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from src.engine.build import plain
from src.engine.fit import fit_and_test
from src.metrics.intervals import METRICS
from src.metrics.paired import holm
from src.runs.directory import write_config, write_status
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError
from studies.findings import ORIGINAL
from studies.head_study.findings import findings
from studies.head_study.page import CONDITIONS, write_study
from studies.study import Study
from tests.helpers.running import TINY_DATA, compose_config, tiny_config

CLASSES = ("happy", "sad", "angry")
TINY = [*TINY_DATA, "data=synthetic", "data.draw_gray=true", "trainer.max_epochs=1"]


def run(folder, data_dir, *options):
    cfg = tiny_config(folder, data_dir, *TINY, *options)
    write_config(folder, plain(cfg))
    fit_and_test(cfg)
    write_status(folder, "finished")


def write_page(folder, page):
    page.parent.mkdir(exist_ok=True)
    write_study(compose_config("study", f"runs={folder}", f"output={page}", f"run_dir={folder}"))
    return page.read_text()


def test_from_the_backbone_to_the_page(tmp_path, data_dir):
    folder = tmp_path / "study"
    run(folder / "backbone", data_dir, "experiment=head_study_backbone", "backbone.width=16", "backbone.n_hourglass=1")
    weights = f"backbone.weights={folder}/backbone/checkpoints/last.ckpt"
    common = ["experiment=head_study", "backbone=emonet_tiny", weights, "trainer.precision=32-true"]
    conditions = {
        "fused": (["linear", "multihead"], ["backbone.freeze=all"]),
        "weighted": (["linear"], ["backbone.freeze=all", "loss.class_weights=balanced"]),
        "crossfit": (["linear"], ["backbone.freeze=all", "data.half=second"]),
        "crossfit_seen": (["linear"], ["backbone.freeze=all", "data.half=first"]),
        "emotion2": (["linear"], ["backbone.freeze=fused", "head.tap=emotion2", "trainer.max_epochs=2"]),
    }
    for condition, (heads, options) in conditions.items():
        for head in heads:
            for seed in range(2 if (condition, head) == ("fused", "linear") else 1):
                run(folder / condition / f"{head}_{seed}", data_dir, *common, *options, f"head={head}", f"seed={seed}")
    text = write_page(folder, tmp_path / "docs" / "study.md")
    assert (tmp_path / "docs" / "images" / "study.png").stat().st_size > 10_000
    assert "14 val images" in text
    assert "a fixed number of epochs (1; `emotion2`: 2)" in text
    assert "They hold for this backbone (`emonet_tiny`)" in text
    assert "The backbone of the cross-fit, `emonet_scratch`: half of Training, from scratch, 1 epochs; " in text
    for condition in conditions:
        assert f"(`{condition}`)" in text
    assert f"Not run: {CONDITIONS['sampled']}; {CONDITIONS['sized']}; {CONDITIONS['half']}." in text
    assert "left open** (runs are missing)" in text
    assert "linear: seen minus unseen" in text
    assert "| `fused`: multihead - linear |" in text
    for block in (b.splitlines() for b in text.split("\n\n") if b.startswith("|")):
        assert len({line.count("|") for line in block}) == 1, block
    # A head on frozen features trains itself alone; on emotion2, two blocks of the backbone, too.
    study = Study.read(folder, CONDITIONS)
    head, blocks = (
        study.cells[cell][0].metrics["model/trainable_parameters"]
        for cell in (("fused", "linear"), ("emotion2", "linear"))
    )
    assert blocks > head
    assert study.split == "val"


# Trained parameters of heads on 256 maps of 16 x 16, seven classes.
SIZES = {"linear": 34_055, "self_attention": 84_040, "multihead": 144_535}


def fabricate(folder, condition, head, seed, accuracy, n=600, width=128):
    path = folder / condition / f"{head}_{width}_{seed}"
    path.mkdir(parents=True)
    rng = np.random.default_rng([seed, *map(ord, condition + head)])
    labels = np.arange(n) % 3
    predictions = np.where(rng.random(n) < accuracy, labels, (labels + 1) % 3)
    table = pd.DataFrame({"id": range(n), "split": "val", "label": [CLASSES[i] for i in labels]})
    table["prediction"], table["in_dedup"] = [CLASSES[i] for i in predictions], True
    for i, name in enumerate(CLASSES):
        table[name] = np.where(predictions == i, 0.8, 0.1)
    table.to_csv(path / "predictions.csv", index=False)
    size = SIZES.get(head, 5) if width == 128 else 266 * width + 7
    write_json(
        path / "metrics.json", {"val/accuracy": accuracy, "fit/seconds": 1.0, "model/trainable_parameters": size}
    )
    write_json(path / "status.json", {"state": "finished"})
    cfg = {
        "task": "train",
        "seed": seed,
        "data": {"name": "fer2013"},
        "head": {"name": head, "width": width},
        "backbone": {"name": "emonet_fer"},
    }
    OmegaConf.save(OmegaConf.create({**cfg, "trainer": {"max_epochs": 6}}), path / "config.yaml")


def study_of(folder, gain, seeds=2, conditions=("fused", "weighted", "sampled", "half"), n=600, **gains):
    """Fabricate a study whose attention heads are `gain` better than the others, in an condition of `gains` by that."""
    for condition in conditions:
        for head in ORIGINAL:
            better = gains.get(condition, gain) if head in ("self_attention", "multihead") else 0.0
            for seed in range(seeds):
                fabricate(folder, condition, head, seed, 0.6 + better, n)
    return Study.read(folder, CONDITIONS)


def outcomes(study):
    return [finding.outcome for finding in findings(study)]


def test_attention_that_helps(tmp_path):
    found = findings(study_of(tmp_path, 0.2))
    assert [v.outcome for v in found] == ["refuted"] * 2 + ["not applicable"] * 2 + ["left open"]
    assert all(v.rule.endswith("not applicable, as attention does help") for v in found[2:4])


@pytest.mark.parametrize(
    ("wide", "outcome"),
    [({316: 0.85, 543: 0.85}, "confirmed"), ({316: 0.6, 543: 0.8}, "refuted"), ({400: 0.6}, "left open")],
)
def test_attention_is_not_credited_with_size(tmp_path, wide, outcome):
    """Each attention head is compared with the linear one of its size, and with no other."""
    study_of(tmp_path, 0.2, conditions=("fused",), n=2000)
    for width, accuracy in wide.items():
        for seed in range(2):
            fabricate(tmp_path, "sized", "linear", seed, accuracy, 2000, width=width)
    found = findings(Study.read(tmp_path, CONDITIONS))[-1]
    assert (found.outcome, found.complete) == (outcome, len(wide) == 2)
    if found.complete:
        assert [c.name for c in found.contrasts] == ["self_attention - linear (316)", "multihead - linear (543)"]


def test_attention_that_harms(tmp_path):
    study = study_of(tmp_path, -0.3)
    for head in ("linear_flat", "linear_bottleneck"):
        for seed in range(2):
            fabricate(tmp_path / "more", "fused", head, seed, 0.3)
            study.cells["fused", head] = Study.read(tmp_path / "more", CONDITIONS).cells["fused", head]
    assert outcomes(study)[:2] == ["confirmed", "confirmed"]


def test_few_images_leave_everything_open(tmp_path):
    assert outcomes(study_of(tmp_path, 0.0, n=90)) == ["left open"] * 5


def test_causes(tmp_path):
    """Attention helps once the classes are balanced, and no more with all images than with half of them."""
    found = findings(study_of(tmp_path, -0.2, weighted=0.2, sampled=0.2, half=0.3, n=2000))
    assert [v.outcome for v in found[1:4]] == ["confirmed", "confirmed", "refuted"]
    assert all(v.complete for v in found[:4])


def test_missing_conditions_are_said(tmp_path):
    found = findings(study_of(tmp_path, -0.1, conditions=("fused",)))
    assert [(v.outcome, v.complete) for v in found[2:]] == [("left open", False)] * 3
    text = write_page(tmp_path, tmp_path / "docs" / "study.md")
    assert len(re.findall(r"\(runs are missing\)", text)) == 3


def test_a_contrast_is_a_bootstrap_over_images_and_seeds(tmp_path):
    study = study_of(tmp_path, 0.05)
    found = study.contrast("gap", [("fused", "multihead")], [("fused", "linear")], "accuracy")
    right = {h: np.stack([r.predictions["label"] == r.predictions["prediction"] for r in study.cells["fused", h]])
             for h in ("multihead", "linear")}  # fmt: skip
    assert found.value == pytest.approx(right["multihead"].mean() - right["linear"].mean())
    rng, drawn = np.random.default_rng(5), []
    for _ in range(4000):
        rows = rng.integers(600, size=600)
        a, b = (right[h][rng.integers(2, size=2)][:, rows].mean() for h in ("multihead", "linear"))
        drawn.append(a - b)
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)
    assert found.p == pytest.approx(2 * min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0)), abs=0.03)


def test_p_values_are_corrected(tmp_path):
    found = findings(study_of(tmp_path, 0.05))[0]
    assert list(found.p_values) == pytest.approx(list(holm([c.p for c in found.contrasts])))
    assert set(METRICS) >= {"f1_weighted", "f1_macro"}


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no finished run in fused, weighted.*make study"):
        write_page(tmp_path, tmp_path / "docs" / "page.md")
