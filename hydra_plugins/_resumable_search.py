"""Optuna searches that survive a kill: the same command again runs the trials that are missing.

Hydra takes sweepers from packages of this name only. It imports what it finds here at every start, but for names that
begin with an underscore: this one needs optuna, and is registered when a search begins.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import optuna
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from src.runs.directory import write_status
from src.runs.layout import REPLACED

log = logging.getLogger(__name__)

# The study's list of the trials that a kill ended.
KILLED = "killed"
# Names of what CMA-ES and its variants keep in a study.
PICKLED = ("cma:", "sepcma:", "cmawm:", "lm-cma:")
# What optuna says of a search space that is not the study's.
OTHER_SPACE = ("dynamic value space", "different distribution kind")


class ResumableSearch(OptunaSweeper):
    """The plugin's sweeper, which goes on with the study that it finds in its storage.

    The plugin itself would run all trials again, into the folders of the first ones.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run what is missing of `n_trials`; a job has the number of its trial.

        Args:
            arguments: Overrides of the command line.

        Raises:
            SystemExit: If the study has another search space.
        """
        optuna.logging.set_verbosity(logging.WARNING)
        search = self.sweeper
        try:
            study = optuna.create_study(
                study_name=search.study_name, storage=search.storage, direction=search.direction, load_if_exists=True
            )
            pickled = _has_pickles(study)
        except (SQLAlchemyError, OptunaError, ValueError, LookupError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            sys.exit(f"Error: {search.storage} cannot be read as a study ({reason}); choose another hydra.sweep.dir.")
        if pickled:
            sys.exit(
                f"Error: the study in {search.storage} holds a pickled sampler, which could run any code; searches of "
                "this framework leave none. Choose another hydra.sweep.dir."
            )
        _give_up_killed_trials(study, Path(search.sweep_dir))
        n_trials, done = len(study.trials), _count_done(study)
        if n_trials:
            log.info("The study has %d of %d trials already.", done, search.n_trials)
            if isinstance(search.sampler, BaseSampler):
                search.sampler.reseed_rng()  # its seed would suggest the first trials once more
        search.job_idx = n_trials
        search.n_trials = max(0, search.n_trials - done)
        try:
            super().sweep(arguments)
        except ValueError as error:
            if any(reason in str(error) for reason in OTHER_SPACE):
                sys.exit(
                    f"Error: the study in {search.storage} has another search space ({error}); repeat its options, or "
                    "choose another hydra.sweep.dir."
                )
            if any(trial.state != TrialState.FAIL for trial in study.trials):
                raise
            log.error("No trial has finished: there is no best one.")


def _has_pickles(study: Study) -> bool:
    """Whether optuna's samplers would unpickle what the study holds: CMA-ES keeps its state so."""
    kept = (study.system_attrs, *(trial.system_attrs for trial in study.get_trials(deepcopy=False)))
    return any(name.startswith(PICKLED) for attributes in kept for name in attributes)


def _give_up_killed_trials(study: Study, sweep: Path) -> None:
    """Mark the trials that never ended as failed: only one process at a time holds the folder of a sweep."""
    for trial in study.trials:
        if trial.state == TrialState.RUNNING:
            study.set_user_attr(KILLED, [*study.user_attrs.get(KILLED, []), trial.number])
            study.tell(trial.number, state=TrialState.FAIL)
            log.info("Trial %d was killed and is marked as failed.", trial.number)
            for folder in (*sweep.glob(f"{trial.number}"), *sweep.glob(f"{trial.number}_*")):
                write_status(folder, "interrupted", "killed; another trial replaces it")
                (folder / REPLACED).touch()


def _count_done(study: Study) -> int:
    """Return how many trials have a value or failed by themselves."""
    killed = study.user_attrs.get(KILLED, [])
    ended = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.FAIL)]
    # Earlier versions marked the trial itself.
    return sum(trial.number not in killed and KILLED not in trial.user_attrs for trial in ended)
