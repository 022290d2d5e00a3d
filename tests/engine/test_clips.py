"""Frames of clips from their files to metrics.json, as users run it."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.data.faces.generator import draw_face
from src.engine.evaluate import evaluate
from src.engine.fit import fit_and_test
from src.engine.prepare import prepare
from src.runs.finished import Run
from src.utils.errors import ConfigError
from tests.helpers.running import NO_FIGURES, compose_config, tiny_config

CODES = {"neutral": 0, "angry": 1, "happy": 4, "sad": 5}


def save(face, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(face.image).save(path)


def evaluation(run_dir, folder, data_dir, *options):
    folder.mkdir()
    common = ["trainer=cpu", "trainer.enable_progress_bar=false", f"run_dir={folder}", f"data_dir={data_dir}"]
    return evaluate(compose_config("eval", *common, *NO_FIGURES, f"ckpt_path={run_dir}", *options))


def test_whole_clips_have_their_metrics(tmp_path, data_dir):
    for number, name in enumerate(("happy", "sad")):
        for clip in range(10):
            for i in range(3):
                face = draw_face(9, 100 * number + 10 * clip + i, 64, expression=name)
                save(face, tmp_path / "clips" / name / str(clip) / f"{i}.png")
    data = ["data=clips", f"data.path={tmp_path / 'clips'}", "data.crop=null", "data.split_shares=[0.6,0.1,0.3]"]
    cfg = compose_config("prepare", *data, f"data_dir={data_dir}", f"run_dir={tmp_path}")
    prepare(cfg)
    assert json.loads((tmp_path / "audit.json").read_text())["counts"]["test"] == {"happy": 9, "sad": 9}
    run_dir = tmp_path / "run"
    results = fit_and_test(tiny_config(run_dir, data_dir, *data, "trainer.max_epochs=1", "data.batch_size=16"))
    assert (results["test/n"], results["test/n_clips"], results["test_clip/n"]) == (18, 6, 6)
    table = pd.read_csv(run_dir / "predictions.csv")
    means = table.groupby("clip").agg({"label": "first", "happy": "mean", "sad": "mean"})
    right = means[["happy", "sad"]].idxmax(axis=1) == means["label"]
    assert results["test_clip/accuracy"] == pytest.approx(right.mean())
    low, high = results["test_clip/accuracy_ci95"]
    assert low <= results["test_clip/accuracy"] <= high
    assert "test_clip" in (run_dir / "report.html").read_text()
    assert Run.read(run_dir).class_names == ("happy", "sad")
    again = evaluation(run_dir, tmp_path / "eval", data_dir, *data)
    for key in ("test/accuracy", "test/accuracy_ci95", "test_clip/f1_macro", "test_clip/accuracy_ci95"):
        assert again[key] == pytest.approx(results[key], abs=1e-6)


@pytest.fixture(scope="module")
def affwild2(tmp_path_factory):
    """Eight videos of six frames, of which the second has no expression; two have valence and arousal only."""
    root = tmp_path_factory.mktemp("affwild2")
    for video in range(8):
        split = "Validation_Set" if video > 4 else "Train_Set"
        drawn = [
            draw_face(4, 50 * video + i, 64, expression=list(CODES)[(video + i) % 4] if i else None) for i in range(6)
        ]
        for i, face in enumerate(drawn):
            save(face, root / "cropped_aligned" / str(video) / f"{i + 1:05}.jpg")
        classes = [-1 if i == 1 else CODES.get(face.expression, 7) for i, face in enumerate(drawn)]
        files = {"VA": ("valence,arousal", [f"{face.valence:.3f},{face.arousal:.3f}" for face in drawn])}
        if video not in (4, 7):
            files["EXPR"] = ("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other", map(str, classes))
        for kind, (header, lines) in files.items():
            path = root / f"{kind}_Set" / split / f"{video}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join((header, *lines)) + "\n")
    return root


def test_frames_without_an_expression_count_for_valence_and_arousal(affwild2, tmp_path, data_dir):
    data = ["data=affwild2", f"data.path={affwild2}", "data.annotations=valence_arousal", "data.frame_step=1"]
    model = ["head.valence_arousal=true", "monitor=val/valence_ccc", "trainer.max_epochs=1", "data.batch_size=8"]
    with pytest.raises(ConfigError, match=r"head\.valence_arousal=false, but data=affwild2 has training images with"):
        fit_and_test(tiny_config(tmp_path / "refused", data_dir, *data))
    mixed = ["transform.mixup=0.4", "loss=focal", "data.sampler=balanced", "data.val_share=0.3"]
    results = fit_and_test(tiny_config(tmp_path, data_dir, *data, *model, *mixed))
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    unlabeled = (table["label"] == "").sum()
    assert (results["test/n"], results["test/n_clips"], results["test/n_unlabeled"]) == (18, 3, unlabeled)
    assert unlabeled >= 8
    labeled = table[table["label"] != ""]
    assert results["test/accuracy"] == pytest.approx((labeled["label"] == labeled["prediction"]).mean())
    assert len(Run.read(tmp_path).predictions) == len(labeled)
    low, high = results["test/arousal_rmse_ci95"]
    assert low <= results["test/arousal_rmse"] <= high
    assert np.isfinite(results["val/valence_ccc"])
    assert not any(key.startswith("test_clip") for key in results)  # a video has several labels

    (affwild2 / "EXPR_Set").rename(tmp_path / "elsewhere")
    again = evaluation(tmp_path, tmp_path / "eval", data_dir, *data, "tta=flip")
    assert again["test/n"] == again["test/n_unlabeled"] == 18
    assert "test/accuracy" not in again
    assert again["test/valence_ccc"] == pytest.approx(results["test/valence_ccc"], abs=0.2)
