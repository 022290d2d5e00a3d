"""Weights & Biases: online when it can, offline otherwise, never in the way."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger
from typing_extensions import TypedDict

from src.loggers.hyperparameters import hyperparameters
from src.loggers.results_logger import is_number_of, moved_forward
from src.metrics.directions import mode_of
from src.runs import layout
from src.runs.directory import update_provenance
from src.runs.records import read_provenance
from src.utils.atomic_files import write_json
from src.utils.paths import ROOT
from src.utils.processes import is_main_process
from src.utils.schemas import read_json

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
SPLITS = ("val/", "test/")


class Progress(TypedDict, total=False):
    """Content of a run's note on what was logged."""

    step: int
    best: dict[str, float]


class RunLogger(WandbLogger):
    """Lightning's logger, with steps that never go back and the best value of every validation and test metric.

    wandb's own step is the optimizer's. What comes from before the last step, as from a test, whose trainer counts from
    0, or from the epoch that a killed run repeats, goes to that step: see `moved_forward`.

    Attributes:
        takes_images: Whether images of people may be uploaded.
    """

    def __init__(self, run: Any, save_dir: str, log_images: bool, log_model: bool) -> None:
        """Create the logger.

        Args:
            run: A started run of wandb.
            save_dir: Run directory.
            log_images: Whether images of people may be uploaded.
            log_model: Whether to upload the best weights as an artifact.
        """
        super().__init__(experiment=run, save_dir=save_dir)
        self.takes_images, self._uploads_model = log_images, log_model
        self._note = Path(save_dir) / layout.WANDB_PROGRESS
        before = read_json(self._note, Progress)
        # Offline, wandb knows nothing of the run's earlier segments: it counts from 0, and forgets the best values.
        self._step = max(int(run.step), before.get("step", -1) + 1)
        self._best: dict[str, float] = before.get("best", {})
        self._defined: set[str] = set()
        run.define_metric(STEP, hidden=True)
        run.define_metric("epoch", hidden=True, step_metric=STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers, or wandb's charts and tables, at a step."""
        if not is_main_process():
            return
        metrics, self._step = moved_forward(metrics, step, self._step)
        for name, value in metrics.items():
            if is_number_of(name, value, SPLITS) and value == value:
                self._keep_best(name, value)
        self.experiment.log({**metrics, STEP: self._step}, step=self._step)
        if self._note.parent.is_dir():
            write_json(self._note, {"step": self._step, "best": self._best})

    def _keep_best(self, name: str, value: float) -> None:
        mode = mode_of(name)
        if mode is None:
            return  # the last value counts, as with anything else
        pick = min if mode == "min" else max
        # The best of several tests would flatter: of those, the last one counts.
        known = self._best.get(name, value) if name.startswith("val/") else value
        self._best[name] = pick(value, known)
        if name not in self._defined:
            self._defined.add(name)
            self.experiment.define_metric(name, step_metric=STEP, summary=mode)

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]  # dictionaries only
        """Send the configuration, in a form that filters well: see `hyperparameters`."""
        if is_main_process():
            config = hyperparameters(params, Path(str(self.save_dir)))
            self.experiment.config.update(config, allow_val_change=True)

    def start_at(self, step: int) -> None:
        """Do nothing: segments of a run count on, see `log_metrics`."""

    def log_file(self, path: Path) -> None:
        """Show a figure."""
        if path.suffix == ".png":
            self.log_metrics({f"figures/{path.stem}": wandb.Image(str(path))})

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Complete the summary at the end of a run, and upload the weights if asked to.

        Args:
            results: As in `metrics.json`. `val/...`, the values of the best epoch, become `best/val/...`: the summary's
                own `val/...` are the best value of each metric in any epoch.
        """
        run, run_dir = self.experiment, Path(str(self.save_dir))
        run.log(dict[str, Any](), step=self._step, commit=True)  # or the last step would overwrite what follows
        summary: dict[str, Any] = {f"best/{k}" if k.startswith("val/") else k: v for k, v in results.items()}
        for name, value in self._best.items():
            mode = mode_of(name)
            if mode is not None:  # a segment of an older version may have kept others
                summary[name] = {mode: value}
        run.summary.update(summary)
        origin = read_provenance(run_dir)
        run.config.update({"data_fingerprint": origin.get("data"), "weights": origin.get("weights")})
        weights = run_dir / layout.BEST_WEIGHTS
        if self._uploads_model and weights.is_file():
            best = {k: v for k, v in summary.items() if k.startswith("best/")}
            artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=best)
            artifact.add_file(str(weights))
            run.log_artifact(artifact, aliases=["best"])

    def closing_lines(self) -> list[str]:
        """Return how to look at the run: its address, or how to sync it and how to see it without an account."""
        run = self.experiment
        if run.disabled:
            return []
        folder = Path(run.dir).parent
        if not run.offline:
            return [
                f"Weights & Biases: {run.url}",
                f"  if the upload does not end: wandb sync {shlex.quote(str(folder))}",
            ]
        segments = sorted(folder.parent.glob(f"offline-run-*-{run.id}"))  # their names start with the time
        parts = f"; its {len(segments)} parts in this order, at once" if len(segments) > 1 else ""
        return [
            f"Weights & Biases (offline{parts}): wandb sync {shlex.join(map(str, segments))}",
            f"  without an account:       wandb leet run {shlex.quote(str(folder))}",
        ]


def run_loggers(loggers: Sequence[Logger]) -> list[RunLogger]:
    """Return those of our kind."""
    return [logger for logger in loggers if isinstance(logger, RunLogger)]


def open_wandb(
    project: str,
    entity: str | None,
    group: str | None,
    job_type: str,
    save_dir: str,
    tags: list[str],
    log_images: bool,
    log_model: bool,
    timeout: float,
    finish_timeout: float,
) -> RunLogger | None:
    """Start a run; one that resumes in its own directory keeps its id.

    Args:
        project: Project of the run.
        entity: User or team, None for the default.
        group: Group of the run, the sweep's name.
        job_type: Kind of the run, its entry point.
        save_dir: Run directory; wandb's files go below it.
        tags: Tags.
        log_images: Whether images of people may be uploaded.
        log_model: Whether to upload the best weights as an artifact.
        timeout: Seconds to wait for the server at the start.
        finish_timeout: Seconds to wait at the end for what is not uploaded yet.

    Returns:
        The logger, or None in processes other than the main one.
    """
    if not is_main_process():
        return None
    options: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "group": group,
        "job_type": job_type,
        "dir": save_dir,
        "name": Path(save_dir).name,
        "tags": list(tags),
        "id": read_provenance(Path(save_dir)).get("wandb_id"),
        "resume": "allow",
        "reinit": "finish_previous",
    }
    run = _start(options, wandb_mode(), timeout, finish_timeout)
    update_provenance(Path(save_dir), wandb_id=run.id)
    return RunLogger(run, save_dir, log_images, log_model)


def wandb_mode() -> Any:
    """Return `WANDB_MODE` if it is set, else `online` when wandb finds a key, else `offline`."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    """Look for a key where wandb does, without asking its server, which may not answer."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(wandb.setup().settings.base_url).hostname or ""
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc(Path(path).expanduser()).authenticators(host):
                return True
        except (OSError, NetrcParseError):
            continue
    return False


def _start(options: dict[str, Any], mode: Any, timeout: float, finish_timeout: float) -> Any:
    quiet: dict[str, Any] = {"silent": True, "console": "off", "finish_timeout": finish_timeout}
    if (ROOT / ".git").exists():
        quiet["git_root"] = str(ROOT)  # the code's version, from whichever directory it runs
    if mode == "online":
        try:
            return wandb.init(mode="online", settings=wandb.Settings(init_timeout=timeout, **quiet), **options)
        except wandb.Error as error:
            reason = str(error).split("\n")[0]
            log.warning("Weights & Biases does not answer (%s): this run is recorded offline.", reason)
    options = {key: value for key, value in options.items() if key != "resume"}
    return wandb.init(mode="offline" if mode == "online" else mode, settings=wandb.Settings(**quiet), **options)


@contextmanager
def closed_wandb() -> Iterator[None]:
    """Close the run that the block opens, if any, failed if the block is left by an exception.

    Without this, the next job of a sweep would write into it.
    """
    code = 1
    try:
        yield
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        raise
    finally:
        if wandb.run is not None:
            wandb.finish(exit_code=code)
