"""What a training gives TensorBoard and MLflow, read back from their files and compared with the run's own numbers."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.cli.resolvers import SWEEP_ID
from src.engine.build import opened_loggers
from src.engine.fit import fit_and_test
from src.loggers.mlflow_logger import MlflowResults, is_local, open_mlflow, without_password
from src.loggers.results_logger import final_numbers, log_outcome, moved_forward
from src.loggers.tensorboard_logger import TensorBoardResults, open_tensorboard
from src.runs.directory import environment, update_provenance
from src.utils.errors import ConfigError
from tests.helpers.running import read_checkpoint, tiny_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A run of one epoch, resumed for a second one, with all loggers."""
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer

    base = tmp_path_factory.mktemp("many")
    run_dir, folder = base / "sweep-7" / "0_head-linear", base / "mlflow"
    run_dir.mkdir(parents=True)
    update_provenance(run_dir, **environment([], {"optimizer": "adam"}))
    options = ["logger=many", f"logger.mlflow.folder={folder}", "trainer.log_every_n_steps=1"]
    options += ["+callbacks.test_table.writers.drawn._target_=src.callbacks.figures.ConfusionMatrix"]
    ids, lines = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv(SWEEP_ID, "sweep-7")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        console = SimpleNamespace(print=lambda line, **_: lines.append(str(line)))
        patch.setattr("src.engine.build.Console", lambda **_: console)
        for epochs, more in ((1, ["test=false"]), (2, ["ckpt_path=last"])):
            cfg = tiny_config(run_dir, data_dir, *options, f"trainer.max_epochs={epochs}", *more)
            fit_and_test(cfg)
            ids.append(json.loads((run_dir / "provenance.json").read_text())["mlflow_id"])
            assert "MLFLOW_TRACKING_URI" not in os.environ  # the next job may want another place
    assert ids[0] == ids[1]
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    csv = pd.concat([pd.read_csv(file) for file in sorted(run_dir.glob("csv/version_*/metrics.csv"))])
    metrics = json.loads((run_dir / "metrics.json").read_text())
    return SimpleNamespace(
        **{"run_dir": run_dir, "folder": folder, "client": client, "run": client.get_run(ids[0]), "events": events},
        **{"csv": csv, "metrics": metrics, "lines": lines},
    )


def tensorboard_history(trained, name):
    return [(event.step, event.value) for event in trained.events.Scalars(name)]


def mlflow_history(trained, name):
    found = trained.client.get_metric_history(trained.run.info.run_id, name)
    return [(point.step, point.value) for point in sorted(found, key=lambda point: (point.step, point.timestamp))]


@pytest.mark.parametrize("history", [tensorboard_history, mlflow_history])
def test_every_number_of_every_step_is_that_of_the_csv_file(trained, history):
    """But those of evaluations, whose trainers count from 0: they are at the last step."""
    names = [name for name in trained.csv if name.startswith(("train/", "val/", "lr-"))]
    assert len(names) > 20
    last = read_checkpoint(trained.run_dir)["global_step"] - 1
    for name in names:
        rows = trained.csv[(trained.csv["step"] > 0) | (trained.csv["epoch"].isna()) | (name.startswith("train/"))]
        expected = [(row["step"], row[name]) for _, row in rows.iterrows() if row[name] == row[name]]
        found = history(trained, name)
        assert [step for step, _ in found] == [step for step, _ in expected], name
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6), name
        assert found[-1][0] <= last


@pytest.mark.parametrize("history", [tensorboard_history, mlflow_history])
def test_the_results_are_those_of_the_run(trained, history):
    last = read_checkpoint(trained.run_dir)["global_step"] - 1
    numbers = final_numbers(trained.metrics)
    assert {"best/val/f1_macro", "test/accuracy", "test/accuracy_ci95/low", "fit/seconds"} <= numbers.keys()
    for name, value in numbers.items():
        step, found = history(trained, name)[-1]
        assert found == pytest.approx(value, rel=1e-6), name
        assert step == last, name


def test_the_tab_of_hyperparameters_compares_runs(trained):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = {
        name: HParamsPluginData.FromString(metadata.plugin_data.content)
        for name, metadata in trained.events.summary_metadata.items()
        if name.startswith("_hparams_/")
    }
    given = data["_hparams_/session_start_info"].session_start_info.hparams
    assert given["optimizer.lr"].number_value == 0.003
    assert (given["head.name"].string_value, given["optimizer.name"].string_value) == ("linear", "adam")
    assert not [name for name in given if "_target_" in name or name.startswith(("callbacks", "logger", "run_dir"))]
    shown = {info.name.tag for info in data["_hparams_/experiment"].experiment.metric_infos}
    assert {"best/val/f1_macro", "test/accuracy"} <= shown <= set(trained.events.Tags()["scalars"])


def test_the_run_of_mlflow(trained):
    run = trained.run
    assert (run.info.run_name, run.info.status) == (trained.run_dir.name, "FINISHED")
    assert (run.data.tags["sweep"], run.data.tags["task"]) == ("sweep-7", "train")
    assert (run.data.params["optimizer.lr"], run.data.params["head.name"]) == ("0.003", "linear")
    # A parameter never changes: what the resumption was told otherwise is a tag.
    assert (run.data.params["trainer.max_epochs"], run.data.tags["trainer.max_epochs"]) == ("1", "2")
    assert "optimizer.lr" not in run.data.tags
    (experiment,) = [e for e in trained.client.search_experiments() if e.name == "emonet-fer"]
    assert run.info.experiment_id == experiment.experiment_id


def test_figures_and_report(trained):
    with Image.open(trained.run_dir / "figures" / "confusion_matrix.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    shown = trained.events.Images("figures/confusion_matrix")[-1]
    assert (shown.width, shown.height) == (pixels.shape[1], pixels.shape[0])
    artifacts = trained.folder / "artifacts" / trained.run.info.run_id / "artifacts"
    for name in ("figures/confusion_matrix.png", "report.html"):
        assert (artifacts / name).read_bytes() == (trained.run_dir / name).read_bytes()


def test_the_last_lines_say_how_to_look(trained):
    text = "\n".join(trained.lines)
    assert f"tensorboard --logdir {trained.run_dir.parent}\n" in text  # all jobs of the sweep
    assert f"mlflow ui --backend-store-uri sqlite:///{trained.folder / 'mlflow.db'}\n" in text


def test_what_a_killed_run_repeats_is_shown_once(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer

    # Names of files that are made in the same second are in order while their numbers are of one length.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))
    for first, steps in ((0, (0, 1, 2, 3)), (2, (2, 3, 4))):
        logger = open_tensorboard(str(tmp_path), None)
        logger.start_at(first)
        for step in steps:
            logger.log_metrics({"val/loss": 10 * first + step}, step)
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/loss")] == [(0, 0), (1, 1), (2, 22), (3, 23), (4, 24)]


def test_steps_never_go_back():
    assert moved_forward({"a": 1, "epoch": 0}, 7, 5) == ({"a": 1, "epoch": 0}, 7)
    assert moved_forward({"val/loss": 1, "test/loss": 2, "epoch": 0}, 0, 5) == ({"test/loss": 2}, 5)
    assert moved_forward({"val/loss": 1}, 0, 0) == ({"val/loss": 1}, 0)  # an evaluation by itself


def test_numbers_that_are_not_defined_are_left_out():
    results = {"val/loss": 1.0, "test/mcc": None, "test/kappa": float("nan"), "test/f1_ci95": [0.1, 0.3], "test/n": 3}
    expected = {"best/val/loss": 1.0, "test/f1_ci95/low": 0.1, "test/f1_ci95/high": 0.3, "test/n": 3}
    assert final_numbers(results) == expected


def test_a_store_that_is_lost_ends_no_training(trained, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logger = open_mlflow("emonet-fer", str(trained.folder), None, "train", str(tmp_path), log_images=False)

    def break_down(*args, **kwargs):
        raise OSError("the server at http://me:secret@example.org is gone")

    monkeypatch.setattr(logger.experiment, "log_batch", break_down)
    for step in range(3):
        logger.log_metrics({"val/loss": 1.0}, step)
    logger.finalize("success")
    assert [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()] == [
        "MLflow takes no more of this run, which goes on without it: the server at http://example.org is gone"
    ]


def test_a_run_that_fails_is_marked_so(trained, tmp_path, monkeypatch, data_dir):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = tiny_config(tmp_path, data_dir, "logger=mlflow", f"logger.mlflow.folder={trained.folder}")
    with pytest.raises(ConfigError, match="a mistake"), opened_loggers(cfg):
        raise ConfigError("a mistake")
    known = json.loads((tmp_path / "provenance.json").read_text())["mlflow_id"]
    assert trained.client.get_run(known).info.status == "FAILED"


def test_stores_that_cannot_be_written_are_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(ConfigError, match=r"logger=tensorboard cannot write to .*tensorboard.*; expected a folder"):
        open_tensorboard(str(tmp_path), None)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "mlflow.db").write_text("no database, however long it is looked at" * 10)
    for name in ("tensorboard", "broken"):
        with pytest.raises(ConfigError, match=rf"cannot use logger.mlflow.folder={tmp_path / name} \(.*Set logger\.ml"):
            open_mlflow("emonet-fer", str(tmp_path / name), None, "train", str(tmp_path), log_images=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"cannot use MLFLOW_TRACKING_URI=http://127\.0\.0\.1:9 \(") as caught:
        open_mlflow("emonet-fer", str(tmp_path / "x"), None, "train", str(tmp_path), log_images=False)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("sqlite:////home/me/mlflow.db", True),
        ("file:///home/me/mlruns", True),
        ("/home/me/mlruns", True),
        ("C:\\mlruns", True),
        ("http://localhost:5000", False),  # it may be the end of a tunnel
        ("postgresql://example.org/mlflow", False),
        ("s3://bucket/artifacts", False),
        ("mlflow-artifacts:/1", False),
        ("databricks", False),
    ],
)
def test_which_stores_are_on_this_machine(uri, local):
    assert is_local(uri) == local


def test_passwords_are_left_out():
    assert without_password("to http://me:secret@host:1/a@b failed") == "to http://host:1/a@b failed"


class Recorder:
    """A logger that notes what it is given."""

    def __init__(self, takes_images):
        self.takes_images, self.files = takes_images, []

    def start_at(self, step): ...

    def log_file(self, path):
        self.files.append(path.name)

    def log_results(self, results): ...

    def closing_lines(self): ...


PLAIN = ["confusion_matrix.png", "learning_curves.png"]


@pytest.mark.parametrize("takes_images", [False, True])
@pytest.mark.parametrize("shows_people", [False, True])
def test_images_of_people_go_to_loggers_that_may_have_them(tmp_path, takes_images, shows_people):
    (tmp_path / "figures").mkdir()
    for name in ("report.html", *(f"figures/{name}" for name in (*PLAIN, "gradcam.png", "of_my_own.png"))):
        (tmp_path / name).touch()
    logger = Recorder(takes_images)
    log_outcome([logger], tmp_path, {}, shows_people=shows_people)
    everything = ["confusion_matrix.png", "gradcam.png", "learning_curves.png", "of_my_own.png", "report.html"]
    assert logger.files == (PLAIN if shows_people and not takes_images else everything)


@pytest.mark.parametrize(
    ("artifacts", "log_images", "takes"), [("file:///a", False, True), ("s3://b", False, False), ("s3://b", True, True)]
)
def test_images_go_to_other_machines_only_if_allowed(trained, tmp_path, monkeypatch, artifacts, log_images, takes):
    """Also where only the artifacts are elsewhere."""
    run = SimpleNamespace(data=SimpleNamespace(params={}), info=SimpleNamespace(artifact_uri=artifacts))
    client = SimpleNamespace(get_run=lambda run_id: run, update_run=lambda run_id, status: None)
    monkeypatch.setattr(MlflowResults, "experiment", client)
    monkeypatch.setattr(MlflowResults, "run_id", "1")
    options = {"tags": {}, "run_id": "1", "log_images": log_images}
    address = f"sqlite:///{trained.folder / 'mlflow.db'}"
    assert MlflowResults(address, "e", str(tmp_path), **options).takes_images == takes
    assert TensorBoardResults.takes_images
