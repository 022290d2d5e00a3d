"""Optuna searches that survive a kill: the same command again runs the trials that are missing."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
from hydra_plugins.hydra_optuna_sweeper import _impl
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from optuna.trial import FrozenTrial, TrialState

from src.runs import layout
from src.runs.directory import write_status
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)

KILLED = "killed"


class ResumableSearch(OptunaSweeperImpl):
    """The plugin's sweeper, which goes on with the study that it finds in its storage.

    The plugin itself would run all trials again, into the folders of the first ones.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run what is missing of `n_trials`; a job has the number of its trial.

        Args:
            arguments: Overrides of the command line.
        """
        if self.config is None:
            raise RuntimeError("the sweeper was not set up")
        sweep = Path(self.config.hydra.sweep.dir)
        directions = self._get_directions()
        study = optuna.create_study(
            study_name=self.study_name, storage=self.storage, directions=directions, load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                # Only one sweep at a time holds the folder: whoever ran this trial is gone.
                study._storage.set_trial_user_attr(trial._trial_id, KILLED, True)
                study.tell(trial.number, state=TrialState.FAIL)
                log.info("Trial %d was killed and is marked as failed.", trial.number)
                _mark_as_replaced(sweep, trial.number)
        trials = study.get_trials(deepcopy=False)
        self.job_idx = len(trials)
        done = sum(_has_run(trial) for trial in trials)
        if trials:
            log.info("The study has %d of %d trials already.", done, self.n_trials)
            if hasattr(self.sampler, "reseed_rng"):
                self.sampler.reseed_rng()  # its seed would suggest the first trials once more
        self.n_trials = max(0, self.n_trials - done)
        try:
            super().sweep(arguments)
        except ValueError as error:
            if "No trials are completed" in str(error):
                log.error("No trial has finished: there is no best one.")
            elif "does not support dynamic value space" in str(error):
                raise ConfigError(
                    f"the study in {self.storage} has another search space ({error}); repeat its options, or choose "
                    "another hydra.sweep.dir."
                ) from error
            else:
                raise


def _mark_as_replaced(sweep: Path, number: int) -> None:
    for folder in (*sweep.glob(f"{number}"), *sweep.glob(f"{number}_*")):
        write_status(folder, "interrupted", "killed; another trial replaces it")
        (folder / layout.REPLACED).touch()


def use_resumable_search() -> None:
    """Let `hydra/sweeper=optuna` search so; Hydra takes sweepers from packages of plugins only."""
    optuna.logging.set_verbosity(logging.WARNING)
    setattr(_impl, "OptunaSweeperImpl", ResumableSearch)  # noqa: B010  # a class is no variable for mypy


def _has_run(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it has a value, or its job failed by itself."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and KILLED not in trial.user_attrs)
