"""What a training records in Weights & Biases, read from the files of its offline segments."""

import json
from dataclasses import replace

import pytest
import wandb
import yaml

from src.callbacks.evaluation_table import EvaluationTableWriter
from src.callbacks.wandb_charts import MistakesTable, precision_recall_curves
from src.cli.resolvers import SWEEP_ID
from src.engine.fit import fit_and_test
from src.loggers.wandb_logger import RunLogger
from src.metrics.directions import mode_of
from src.runs.directory import environment, update_provenance
from src.utils.paths import ROOT
from tests.helpers.running import read_checkpoint, tiny_config
from tests.helpers.wandb_file import read_records
from tests.loggers.test_wandb_logger import recorded


class Keep(EvaluationTableWriter):
    table = None

    def write(self, table, run_dir, trainer):
        Keep.table = table
        return {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A run of one epoch, resumed for a second one, and what it returned."""
    run_dir = tmp_path_factory.mktemp("run")
    update_provenance(run_dir, **environment([], {"optimizer": "adam", "experiment": None}))
    options = ["logger=wandb", "logger.wandb.tags=[baseline]", "logger.wandb.log_model=true"]
    options += [
        "callbacks.gradient_norms.every_n_steps=1",
        "head.valence_arousal=true",
        "trainer.gradient_clip_val=0.01",
    ]
    options += ["+callbacks.test_table.writers.keep._target_=tests.loggers.test_wandb_run.Keep"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv(SWEEP_ID, "sweep-7")
        fit_and_test(tiny_config(run_dir, data_dir, *options, "trainer.max_epochs=1"))
        cfg = tiny_config(run_dir, data_dir, *options, "trainer.max_epochs=2", "ckpt_path=last")
        results = fit_and_test(cfg)
    return run_dir, results, recorded(run_dir)


def table(segment, run_dir, key):
    """Return a logged table, a dictionary per row."""
    file = next(run_dir.glob(f"wandb/*/files/{segment.summary[key + '.path']}"))
    content = json.loads(file.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_group_kind_tags_and_code_version(trained):
    run_dir, _, segments = trained
    for segment in segments:
        run = segment.run
        assert (run.project, run.run_group, run.job_type, list(run.tags)) == (
            "emonet-fer",
            "sweep-7",
            "train",
            ["baseline"],
        )
        assert run.display_name == run_dir.name
        assert segment.exit_code == 0
        known = json.loads((run_dir / "provenance.json").read_text())
        assert (segment.config["git_sha"], run.run_id) == (known["git_sha"], known["wandb_id"])
        assert segment.environment.git.commit == (known["git_sha"] or "")


def test_the_configuration_filters(trained):
    config = trained[2][0].config
    assert (config["head"]["name"], config["optimizer"]["name"], config["precision"]) != (None, None, None)
    assert config["head"]["name"] == "linear"
    assert config["optimizer"] == {"name": "adam", "lr": 0.003, "weight_decay": 0.0}
    assert config["data_fingerprint"].startswith("synthetic-")
    assert not {"callbacks", "logger", "run_dir", "hydra"} & config.keys()
    assert "_target_" not in json.dumps(config)


def test_a_resumed_run_goes_on_where_it_ended(trained):
    run_dir, _, segments = trained
    steps = [row["_step"] for segment in segments for row in segment.history]
    assert steps == sorted(set(steps))
    assert steps[-1] == read_checkpoint(run_dir)["global_step"] - 1  # counted from 0
    assert len(segments) == 2
    assert [row["epoch"] for s in segments for row in s.history if "val/loss" in row] == [0, 1]


def test_best_values_have_a_direction(trained):
    _, results, segments = trained
    last = segments[-1]
    for name, pick in (("val/f1_macro", max), ("val/loss", min), ("val/ece", min), ("val/valence_rmse", min)):
        values = [row[name] for segment in segments for row in segment.history if name in row]
        assert last.summary[name] == {pick.__name__: pytest.approx(pick(values))}
        assert getattr(last.metrics[name].summary, pick.__name__)
        assert last.metrics[name].step_metric == "trainer/global_step"
        assert last.summary[f"best/{name}"] == pytest.approx(results[name])
    assert last.summary["test/accuracy"] == {"max": pytest.approx(results["test/accuracy"])}
    assert last.summary["test/n"] == 21
    assert last.metrics["trainer/global_step"].options.hidden


def test_the_confusion_matrix(trained):
    run_dir, _, segments = trained
    rows = table(segments[-1], run_dir, "test/confusion_matrix_table")
    assert sum(row["nPredictions"] for row in rows) == 21
    correct = sum(row["nPredictions"] for row in rows if row["Actual"] == row["Predicted"])
    assert correct / 21 == pytest.approx(trained[1]["test/accuracy"])


def test_precision_and_recall(trained):
    from sklearn.metrics import precision_recall_curve

    curves = precision_recall_curves(Keep.table)
    for i, name in enumerate(Keep.table.class_names):
        truth, scores = (Keep.table.labels == i).numpy(), Keep.table.probabilities[:, i].numpy()
        precision, recall, _ = precision_recall_curve(truth, scores)
        for row in curves[curves["class"] == name].to_dict("records"):
            assert row["precision"] == pytest.approx(precision[recall >= row["recall"]].max())
    logged = table(trained[2][-1], trained[0], "test/precision_recall_table")
    assert len(logged) == len(curves)


def test_the_worst_mistakes_come_first(trained):
    run_dir, _, segments = trained
    rows = table(segments[-1], run_dir, "test/mistakes")
    assert all(row["label"] != row["prediction"] for row in rows)
    assert [row["p(label)"] for row in rows] == sorted(row["p(label)"] for row in rows)
    assert len(rows) == round(21 * (1 - trained[1]["test/accuracy"]))
    (artifact,) = [each for each in segments[-1].artifacts if "mistakes" in each.name]
    images = [entry.path for entry in artifact.manifest.contents if entry.path.endswith(".png")]
    assert len(images) == len(rows)  # synthetic faces may be uploaded


@pytest.mark.parametrize(("allowed", "columns"), [(False, 5), (True, 6)])
def test_images_of_people_stay_unless_allowed(trained, tmp_path, monkeypatch, allowed, columns):
    logged = []
    with wandb.init(mode="disabled") as run:
        logger = RunLogger(run, str(tmp_path), log_images=allowed, log_model=False)
        monkeypatch.setattr(logger, "log_metrics", logged.append)

        class Trainer:
            loggers = [logger]

        MistakesTable(n=3).write(replace(Keep.table, shows_people=True), tmp_path, Trainer())
    shown = logged[0]["test/mistakes"]
    assert len(shown.columns) == columns
    assert ("image" in shown.columns) == allowed
    assert len(shown.data) == 3


def test_gradient_norms_are_those_before_clipping(trained):
    rows = [row for segment in trained[2] for row in segment.history if "grad_norm/total" in row]
    assert len(rows) >= 6
    for row in rows:
        assert row["grad_norm/total"] ** 2 == pytest.approx(row["grad_norm/head"] ** 2 + row["grad_norm/backbone"] ** 2)
        assert row["grad_norm/total"] > 0.01


def test_weights_are_an_artifact(trained):
    models = [artifact for artifact in trained[2][-1].artifacts if artifact.type == "model"]
    assert [entry.path for entry in models[0].manifest.contents] == ["best.safetensors"]
    assert "best" in models[0].aliases


def test_nothing_more_is_recorded_by_default(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(Exception, match="val/f1/joy"):
        fit_and_test(tiny_config(tmp_path, data_dir, "logger=wandb", "monitor=val/f1/joy"))
    (segment,) = recorded(tmp_path)
    assert segment.exit_code == 1  # a failed job shows as failed
    assert not segment.artifacts
    assert segment.run.run_group == ""


def test_every_record_is_read(trained):
    (file,) = trained[0].glob("wandb/latest-run/*.wandb")
    kinds = [record.WhichOneof("record_type") for record in read_records(file)]
    assert kinds[0] == "header"
    assert kinds.count("exit") == 1


def test_the_sweep_of_wandb_is_a_training(tmp_path):
    import subprocess

    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

    from tests.cli.test_cli import environment as clean_environment

    sweep = load_sweep_config(str(ROOT / "conf" / "wandb_sweep.yaml"))
    assert sweep["metric"] == {"name": "best/val/f1_macro", "goal": "maximize"}
    assert mode_of("val/f1_macro") == "max"
    arguments = {}
    for name, space in sweep["parameters"].items():
        value = space["values"][-1] if "values" in space else space["max"]
        assert isinstance(value, str | float), name  # YAML reads 3e-4 as text
        arguments[name] = {"value": value}
    expanded = {"env": ["/usr/bin/env"], "interpreter": ["python"]}
    expanded |= create_sweep_command_args({"args": arguments})
    command = []
    for part in create_sweep_command(sweep["command"]):
        command += expanded[part[2:-1]] if part.startswith("${") else [part]
    assert command[:4] == ["/usr/bin/env", "python", "-m", "src.train"]
    import sys

    done = subprocess.run(
        [sys.executable, *command[2:], "--cfg", "job"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    cfg = yaml.safe_load(done.stdout)
    assert cfg["head"]["name"] == "multihead"
    assert cfg["optimizer"]["lr"] == 0.02
    assert cfg["transform"]["name"] == "strong"
    assert cfg["test"] is False
