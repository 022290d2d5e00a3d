import json

import pandas as pd
import pytest
import torch

from src.callbacks.evaluation_report import PredictionsCsv
from src.callbacks.evaluation_table import EvaluationTableCollector, EvaluationTableWriter
from src.callbacks.figures import ConfusionMatrix
from src.data.datasets.fer2013 import Fer2013DataModule
from src.data.datasets.synthetic import SyntheticDataModule
from src.engine.build import build_callbacks
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.fit import fit_and_test
from src.runs.finished import Run
from tests.helpers.full_disk import full_disk
from tests.helpers.running import TINY_DATA, compose_config, tiny_config


class Keep(EvaluationTableWriter):
    """Keeps the table, and adds a number."""

    def write(self, table, run_dir, trainer):
        self.table = table
        return {"test/kept": len(table)}


@pytest.fixture(scope="module")
def kept(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("run")
    writer = Keep()
    off = "callbacks.test_table.writers.predictions=null"
    options = ["trainer.max_epochs=1", "head.valence_arousal=true", off]
    cfg = tiny_config(run_dir, data_dir, *options, figures=True)
    with pytest.MonkeyPatch.context() as patch:
        build = EvaluationTableCollector.__init__
        patch.setattr(
            EvaluationTableCollector,
            "__init__",
            lambda self, run_dir, writers: build(self, run_dir, writers | {"own": writer}),
        )
        results = fit_and_test(cfg)
    return run_dir, writer.table, results


def test_a_writer_gets_every_image_in_the_stores_order(kept):
    _, table, _ = kept
    assert torch.equal(table.rows, torch.from_numpy(table.store.rows("test")))
    assert table.ids == [table.store.ids[row] for row in table.rows]
    assert table.probabilities.sum(dim=1).tolist() == pytest.approx([1.0] * 21)
    assert not table.shows_people


def test_its_numbers_reach_the_metrics(kept):
    run_dir, _, results = kept
    assert results["test/kept"] == 21
    assert json.loads((run_dir / "metrics.json").read_text())["test/kept"] == 21


@pytest.mark.parametrize(
    ("writer", "name"), [(PredictionsCsv(), "predictions.csv"), (ConfusionMatrix(), "figures/confusion_matrix.png")]
)
def test_a_full_disk_is_an_error_and_keeps_what_was_there(kept, tmp_path, writer, name):
    _, table, _ = kept
    writer.write(table, tmp_path, None)
    before = (tmp_path / name).read_bytes()
    with full_disk(len(before) // 2), pytest.raises(OSError, match="File too large"):
        writer.write(table, tmp_path, None)
    assert (tmp_path / name).read_bytes() == before
    assert not list((tmp_path / name).parent.glob(".*"))


def test_a_writer_that_is_off_writes_nothing(kept):
    run_dir, _, _ = kept
    assert not (run_dir / "predictions.csv").exists()
    assert (run_dir / "figures" / "confusion_matrix.png").exists()


def test_the_frame_has_a_row_per_image(kept):
    _, table, _ = kept
    frame = table.to_frame()
    assert list(frame)[:5] == ["id", "split", "label", "prediction", "in_dedup"]
    assert list(frame)[5:] == [*table.class_names, "valence", "arousal"]
    assert (frame["label"] == frame["prediction"]).mean() == pytest.approx(table.accuracy)
    assert isinstance(frame, pd.DataFrame)


def test_one_collector_has_all_writers(tmp_path, data_dir):
    collectors = [
        c for c in build_callbacks(tiny_config(tmp_path, data_dir)) if isinstance(c, EvaluationTableCollector)
    ]
    assert len(collectors) == 1
    assert len(collectors[0].writers) >= 4


def test_only_synthetic_faces_show_nobody():
    assert Fer2013DataModule.shows_people
    assert not SyntheticDataModule.shows_people


def test_without_a_test_the_validation_split_is_written(tmp_path, data_dir):
    results = fit_and_test(tiny_config(tmp_path, data_dir, "trainer.max_epochs=1", "test=false"))
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert set(table["split"]) == {"val"}
    assert len(table) == results["val/n"] == 14
    assert results["val/accuracy"] == pytest.approx((table["label"] == table["prediction"]).mean())
    low, high = results["val/accuracy_ci95"]
    assert low <= results["val/accuracy"] <= high
    assert not any(name.startswith("test") for name in results)
    assert Run.read(tmp_path).split == "val"
    assert (tmp_path / "report.html").exists()
    evaluation = ["trainer=cpu", "trainer.enable_progress_bar=false", f"data_dir={data_dir}", *TINY_DATA]
    cfg = compose_config(
        "eval", *evaluation, f"ckpt_path={tmp_path}", "split=val", f"run_dir={tmp_path / 'eval'}", "tta=flip"
    )
    (tmp_path / "eval").mkdir()
    tested = run_evaluation(cfg)
    assert tested["val/accuracy_single_view"] == pytest.approx(results["val/accuracy"])
    assert set(pd.read_csv(tmp_path / "eval" / "predictions.csv")["split"]) == {"val"}
