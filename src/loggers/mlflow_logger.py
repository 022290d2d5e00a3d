"""MLflow: a database in a folder of this machine, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import MLFlowLogger

from src.loggers.hyperparameters import flattened, hyperparameters
from src.loggers.results_logger import final_numbers, moved_forward
from src.runs import layout
from src.runs.directory import update_provenance
from src.runs.records import read_provenance
from src.utils.errors import ConfigError
from src.utils.extras import require_extra
from src.utils.processes import is_main_process

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
# Read by MLflow when it is imported, or asks a server. What the user has set stays.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing of a run leaves the machine unasked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # its own 7 take minutes to say that nobody answers
}


class MlflowResults(MLFlowLogger):
    """Lightning's logger, with a run's figures, report and final numbers; a store that is lost ends no training."""

    def __init__(
        self,
        address: str,
        experiment: str,
        save_dir: str,
        *,
        tags: dict[str, str],
        run_id: str | None,
        log_images: bool,
    ) -> None:
        """Start a run, or go on with one.

        Args:
            address: MLflow's tracking URI.
            experiment: Name of an experiment that exists.
            save_dir: Run directory.
            tags: Tags of a new run.
            run_id: Run to go on with, None for a new one.
            log_images: Whether images of people may go to another machine.
        """
        super().__init__(experiment, Path(save_dir).name, address, tags, run_id=run_id)
        self._address, self._run_dir = address, Path(save_dir)
        self._step, self._lost = 0, False
        given = os.environ.get(ADDRESS)
        try:
            run = self.experiment.get_run(self.run_id)
        finally:
            # Lightning tells all of MLflow the address, which the next job would take for the user's.
            os.environ.pop(ADDRESS, None)
            os.environ.update({} if given is None else {ADDRESS: given})
        self._params: dict[str, str] = dict(run.data.params)
        self.takes_images = log_images or (is_local(address) and is_local(run.info.artifact_uri))
        if run_id is not None:
            self.experiment.update_run(run_id, status="RUNNING")

    def start_at(self, step: int) -> None:
        """Go on at this step; a step that is logged again keeps both values."""
        self._step = max(step - 1, 0)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at a step, which never goes back."""
        metrics, self._step = moved_forward(metrics, step, self._step)
        self._send(partial(super().log_metrics, metrics, self._step))

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]  # dictionaries only
        """Log the configuration; a parameter never changes in MLflow, so another value of it becomes a tag."""
        flat = flattened(hyperparameters(params, self._run_dir))
        self._send(partial(super().log_hyperparams, {k: v for k, v in flat.items() if k not in self._params}))
        for name, value in flat.items():
            if self._params.get(name, str(value)[:250]) != str(value)[:250]:  # as Lightning cuts it
                self._send(partial(self.experiment.set_tag, self.run_id, name, str(value)))

    def log_file(self, path: Path) -> None:
        """Keep a file as an artifact of the run."""
        folder = layout.FIGURES if path.parent.name == layout.FIGURES else None
        self._send(partial(self.experiment.log_artifact, self.run_id, str(path), folder))

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Log all numbers at the last step."""
        self.log_metrics(final_numbers(results), self._step)

    def finalize(self, status: str = "success") -> None:
        """End the run: `success` or `failed`."""
        self._send(partial(super().finalize, status))

    def closing_lines(self) -> list[str]:
        """Return how to look at the run."""
        if not is_local(self._address):
            page = f"{without_password(self._address)}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
            return [f"MLflow: {page}"]
        import mlflow

        store = f"ui --backend-store-uri {shlex.quote(self._address)}"
        return [
            f"MLflow: mlflow {store}",
            f"  with mlflow-skinny, which has no pages: uvx mlflow@{mlflow.__version__} {store}",
        ]

    def _send(self, send: Callable[[], Any]) -> None:
        """Call a function, unless one before has failed: then the run goes on without."""
        from mlflow.exceptions import MlflowException

        if self._lost:
            return
        try:
            send()
        except (MlflowException, OSError) as error:
            self._lost = True
            log.warning("MLflow takes no more of this run, which goes on without it: %s", _reason(error))


def open_mlflow(
    experiment: str, folder: str, sweep: str | None, task: str, save_dir: str, log_images: bool
) -> MlflowResults | None:
    """Start a run; one that resumes in its own directory goes on with its run of MLflow.

    Args:
        experiment: Name of the experiment, which is made if there is none.
        folder: Where database and artifacts are, unless the environment names another place.
        sweep: Name of the sweep whose job the run is, a tag; None for a single run.
        task: Entry point, a tag.
        save_dir: Run directory.
        log_images: Whether images of people may go to another machine.

    Returns:
        The logger, or None in processes other than the main one.

    Raises:
        ConfigError: If the extra is not installed, or the store cannot be used.
    """
    if not is_main_process():
        return None
    require_extra("mlflow")
    os.environ.update({name: value for name, value in DEFAULTS.items() if name not in os.environ})
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table of a new database
    address = os.environ.get(ADDRESS)
    tags = {"task": task, **({"sweep": sweep} if sweep else {})}
    try:
        address = address or _database(Path(folder))
        client = MlflowClient(address)
        _make_experiment(client, experiment, Path(folder) / "artifacts" if is_local(address) else None)
        run_id = _earlier_run(client, read_provenance(Path(save_dir)).get("mlflow_id"))
        logger = MlflowResults(address, experiment, save_dir, tags=tags, run_id=run_id, log_images=log_images)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        place = f"{ADDRESS}={without_password(address)}" if address else f"logger.mlflow.folder={folder}"
        raise ConfigError(
            f"logger=mlflow cannot use {place} ({_reason(error)}); expected a folder that can be written, or a server "
            f"that answers. Set logger.mlflow.folder or {ADDRESS}, or choose another logger."
        ) from error
    update_provenance(Path(save_dir), mlflow_id=logger.run_id)
    return logger


def is_local(uri: str) -> bool:
    """Whether what is written to an address of MLflow's stays on this machine."""
    scheme = urlparse(uri).scheme
    drive = len(scheme) == 1  # of Windows
    return not uri.startswith("databricks") and (drive or scheme in ("", "file", "sqlite"))


def without_password(text: str) -> str:
    """Return text without the names and passwords of addresses in it."""
    return re.sub(r"//[^/\s@]*@", "//", text)


def _database(folder: Path) -> str:
    """Return the address of a folder's database, of which is known that it can be written.

    MLflow itself would try for minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
    return f"sqlite:///{path}"


def _make_experiment(client: Any, name: str, artifacts: Path | None) -> None:
    from mlflow.exceptions import MlflowException

    if client.get_experiment_by_name(name) is None:
        try:
            client.create_experiment(name, artifacts.absolute().as_uri() if artifacts else None)
        except MlflowException:
            if client.get_experiment_by_name(name) is None:  # another job of the sweep was not faster
                raise


def _earlier_run(client: Any, run_id: str | None) -> str | None:
    """Return a run's id if the store still has the run."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException:
        return None
    return run_id if run and run.info.lifecycle_stage == "active" else None


def _reason(error: Exception) -> str:
    return without_password(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
