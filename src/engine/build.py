"""From configuration to objects to numbers: what training and evaluation share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import Logger
from rich.console import Console
from rich.table import Table

from src.callbacks.evaluation_table import EvaluationTableCollector, Results
from src.callbacks.gradcam import GradCamFigure
from src.data.datamodule import StoreDataModule
from src.engine.checkpoint_io import AtomicCheckpointIO
from src.inference.largest_face import LargestFace
from src.loggers.results_logger import log_outcome, results_loggers
from src.loggers.wandb_logger import closed_wandb
from src.metrics.affect import affect_metric_names
from src.metrics.landmarks import LANDMARK_METRIC, region_metric
from src.models.classifier import ExpressionClassifier
from src.reports.numbers import shown_metric, shown_sets
from src.reports.run_report import write_report
from src.runs import layout
from src.utils.atomic_files import write_json
from src.utils.cpu_precision import CpuMixedPrecision
from src.utils.errors import ConfigError
from src.utils.precision import device_kind, resolve_precision
from src.utils.processes import is_main_process

log = logging.getLogger(__name__)

TABLE_ROWS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "ece")
FURTHER_ROWS = (*affect_metric_names(), LANDMARK_METRIC, region_metric("inner"))


def plain(cfg: Any) -> dict[str, Any]:
    """Return a part of the configuration as plain, resolved dictionaries and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def build_data(cfg: DictConfig, **options: Any) -> StoreDataModule:
    """Build the data module of `data=`.

    Args:
        cfg: Whole configuration.
        **options: Arguments that take the place of those of the configuration, or that it does not hold, such as the
            model's classes.
    """
    # Hydra would merge a dictionary into the node that a key of the configuration links to.
    return cast(StoreDataModule, instantiate({**plain(cfg.data), **options}, face_cutter=LargestFace()))


def build_callbacks(cfg: DictConfig) -> list[Callback]:
    """Build the callbacks, in the order of their names in the configuration."""
    return [instantiate(entry, _convert_="all") for entry in cfg.callbacks.values() if entry]


def build_loggers(cfg: DictConfig) -> list[Logger]:
    """Build the loggers."""
    loggers = [instantiate(entry, _convert_="all") for entry in cfg.logger.values() if entry]
    return [logger for logger in loggers if logger is not None]


@contextmanager
def opened_loggers(cfg: DictConfig, step: int = 0, **described: Any) -> Iterator[list[Logger]]:
    """Build the loggers, and close what they opened: as failed if the block is left by an exception.

    Args:
        cfg: Whole configuration; the loggers get it as the run's description.
        step: First step that will be logged.
        **described: What is known better than the configuration has it.

    Yields:
        The loggers.
    """
    with closed_wandb():
        loggers, status = build_loggers(cfg), "failed"
        try:
            for logger in results_loggers(loggers):
                logger.start_at(step)
            for each in loggers:
                each.log_hyperparams({**plain(cfg), **described})
            yield loggers
            status = "success"
        finally:
            for each in loggers:
                each.finalize(status)


def build_trainer(
    cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger], precision: str, max_epochs: int | None = None
) -> Trainer:
    """Build Lightning's trainer; callbacks that need what is switched off are left out.

    Args:
        cfg: Whole configuration.
        callbacks: Callbacks.
        loggers: Loggers.
        precision: Numeric precision.
        max_epochs: Epochs to train for; None for those of `trainer.max_epochs`.
    """
    kept = callbacks
    if not loggers:
        kept = [c for c in kept if not isinstance(c, LearningRateMonitor)]
    if not cfg.trainer.enable_progress_bar:
        kept = [c for c in kept if not isinstance(c, ProgressBar)]
    if cfg.trainer.get("enable_checkpointing") is False:
        kept = [c for c in kept if not isinstance(c, ModelCheckpoint)]
    plugins: list[Any] = [AtomicCheckpointIO(Path(cfg.run_dir) / layout.CHECKPOINTS)]
    if SLURMEnvironment.detect():
        # submitit requeues; if Lightning did, too, a job would start twice.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    options: dict[str, Any] = {
        "precision": precision,
        "callbacks": kept,
        "logger": loggers or False,
        "plugins": plugins,
        "default_root_dir": cfg.run_dir,
    }
    if precision in ("16-mixed", "bf16-mixed") and device_kind(cfg.trainer.accelerator) == "cpu":
        options["precision"] = None
        plugins.append(CpuMixedPrecision(precision))
    if max_epochs is not None:
        options["max_epochs"] = max_epochs
    try:
        return cast(Trainer, instantiate(cfg.trainer, **options, _convert_="all"))
    except InstantiationException as error:
        raise ConfigError(
            f"trainer.accelerator={cfg.trainer.accelerator}, trainer.devices={cfg.trainer.devices}, "
            f"trainer.strategy={cfg.trainer.strategy}: {error.__cause__} "
            "Use trainer=cpu, or options that fit the machine."
        ) from error


def choose_precision(cfg: DictConfig) -> str:
    """Return the precision to run in, and print it: `trainer.precision`, or for `auto` what suits this machine."""
    precision = resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator)
    log.info("Precision: %s", precision)
    return precision


def evaluate_splits(
    cfg: DictConfig,
    model: ExpressionClassifier,
    data: StoreDataModule,
    *,
    loggers: list[Logger],
    precision: str,
    callbacks: list[Callback],
    validate: bool,
    test: bool = True,
) -> Results:
    """Evaluate a model and return the numbers of `metrics.json`; the callbacks write the rest.

    Args:
        cfg: Whole configuration.
        model: Model with the weights to evaluate.
        data: Data set.
        loggers: Loggers that also get the numbers.
        precision: Numeric precision.
        callbacks: Callbacks; those of an evaluation are used.
        validate: Whether to add the metrics of the validation split.
        test: Whether to evaluate on the test split. If not, predictions, intervals and figures are those of validation.
    """
    collectors = [c for c in callbacks if isinstance(c, EvaluationTableCollector)]
    others: list[Callback] = [c for c in callbacks if isinstance(c, GradCamFigure | ProgressBar)]
    results: Results = {}
    if validate:
        trainer = build_trainer(cfg, others if test else [*collectors, *others], loggers, precision)
        trainer.validate(model, datamodule=data, verbose=False)
        results |= _scalars(trainer, "val/")
    if test:
        trainer = build_trainer(cfg, [*collectors, *others], loggers, precision)
        trainer.test(model, datamodule=data, verbose=False)
        results |= _scalars(trainer, "test/")
    for collector in collectors:
        results |= collector.results
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    results["model/parameters"] = sum(p.numel() for p in model.parameters())
    results["model/trainable_parameters"] = trained
    return results


def _scalars(trainer: Trainer, prefix: str) -> Results:
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}


def write_results(cfg: DictConfig, results: Results, loggers: list[Logger], *, shows_people: bool) -> None:
    """Write `metrics.json`, print the result table and where everything is, in the main process.

    Args:
        cfg: Whole configuration.
        results: The numbers.
        loggers: Loggers, which get what there is to show.
        shows_people: Whether the images of the data set do.
    """
    if not is_main_process():
        return
    run_dir = Path(cfg.run_dir)
    # Strict JSON has no NaN: an undefined metric, such as the correlation of constant predictions, is null.
    write_json(run_dir / layout.METRICS, {k: None if v != v else v for k, v in results.items()})
    if (run_dir / layout.PREDICTIONS).is_file():  # its writer may be off
        write_report(run_dir)
    console = Console(stderr=True, markup=False)
    console.print(result_table(results))
    console.print(f"Run directory: {run_dir}", soft_wrap=True, highlight=False)
    log_outcome(loggers, run_dir, results, shows_people=shows_people)
    for logger in results_loggers(loggers):
        for line in logger.closing_lines():
            console.print(line, soft_wrap=True, highlight=False)


def result_table(results: Results) -> Table:
    """Return the table of the most important numbers, a column per evaluated set."""
    table = Table(title="Result")
    table.add_column("metric")
    sets = shown_sets(results)
    for name in sets:
        n = results.get(f"{name}/n")
        table.add_column(f"{name} (n = {n})" if n else name, justify="right")
    for metric in TABLE_ROWS:
        table.add_row(metric, *(shown_metric(results, f"{name}/{metric}") for name in sets))
    for metric in FURTHER_ROWS:
        if any(f"{name}/{metric}" in results for name in sets):
            table.add_row(metric, *(shown_metric(results, f"{name}/{metric}") for name in sets))
    for metric in sorted({k.partition("/")[2] for k in results if k.startswith(("val/f1/", "test/f1/"))}):
        table.add_row(metric, *(shown_metric(results, f"{name}/{metric}") for name in sets))
    return table
