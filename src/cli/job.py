"""What every entry point does around its job: check, log, status, one clear message for a user's mistake."""

from __future__ import annotations

import errno
import io
import logging
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.cli.command_line import check_command_line
from src.cli.resolvers import register_resolvers
from src.cli.sweep_jobs import needs_own_process, run_in_own_process, settle_job, value_of
from src.cli.validation import validate_config
from src.runs import layout
from src.runs.directory import (
    environment,
    hold_directory,
    release_directory,
    update_provenance,
    write_config,
    write_status,
)
from src.utils.errors import ConfigError
from src.utils.extras import require_extra
from src.utils.signals import Interrupted, stop_requests

log = logging.getLogger(__name__)

register_resolvers()

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a disk, or who owns it, does to a write that has nothing wrong with it.
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
Job = Callable[[DictConfig], Any]


def start(main: Callable[[], Any]) -> None:
    """Run an entry point, if its command line can be read."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Terminals of old have no bars and bullets, which is no reason to end.
            stream.reconfigure(errors="replace")
    check_command_line(sys.argv[1:])
    main()


def run_job(cfg: DictConfig, job: str, extras: Sequence[str] = ()) -> float | None:
    """Run a job in its run directory.

    In a sweep a failing job returns None, so that the others go on; `SweepSummary` then sets the exit code.

    Args:
        cfg: Composed configuration.
        job: What to do, a function of the configuration, as `module:function`; it is imported when it is needed, so
            that `--help` and a wrong option do not wait for torch.
        extras: Extras of `pyproject.toml` that it needs.

    Returns:
        The job's value, if it is a number other than NaN: the metric that sweepers optimize.

    Raises:
        SystemExit: In a single run, if the job failed or was interrupted.
    """

    def checked(cfg: DictConfig) -> Any:
        validate_config(cfg)
        for extra in extras:
            require_extra(extra)
        return resolve_name(job)(cfg)

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    sweeps = hydra.mode == RunMode.MULTIRUN
    if not hold_directory(run_dir):
        log.error("Error: %s is in use by another process; wait for it, or choose another folder.", run_dir)
        return _failed(sweeps)
    try:
        if not sweeps:
            return _run(cfg, checked, run_dir, sweeps)
        try:
            if settle_job(run_dir, cfg, list(hydra.overrides.task)):
                return value_of(run_dir, cfg)
        except ConfigError as error:
            log.error("Error: %s", error)
            return _failed(sweeps)
        if needs_own_process(cfg):
            release_directory(run_dir)  # that process holds it
            with stop_requests.handled():
                finished = run_in_own_process(run_dir, cfg, hydra)
            return value_of(run_dir, cfg) if finished else _failed(sweeps)
        return _run(cfg, checked, run_dir, sweeps)
    finally:
        release_directory(run_dir)


def _failed(sweeps: bool) -> float | None:
    """Return what a failed job of a sweep returns, which searches take for a failure, or end a single run."""
    if sweeps:
        return None
    sys.exit(1)


def _run(cfg: DictConfig, job: Job, run_dir: Path, sweeps: bool) -> float | None:
    """Run a job in a folder that is this process's alone."""
    hydra = HydraConfig.get()
    before = _description(run_dir)
    write_status(run_dir, "running")
    try:
        with stop_requests.handled():
            _describe(run_dir, cfg)
            value = job(cfg)
    except Interrupted as stop:
        write_status(run_dir, "interrupted", stop.reason)
        hint = ""
        if (run_dir / layout.LAST_CHECKPOINT).exists():
            hint = f" Resume with: hydra.run.dir={run_dir} ckpt_path=last"
        log.error("Interrupted: %s.%s", stop.reason, hint)
        raise
    except SystemExit:
        # A cluster that takes its machine back: submitit has put the job into the queue again.
        write_status(run_dir, "interrupted", "stopped from outside")
        raise
    except Exception as error:
        # Any failure belongs in the run's own log: Hydra prints only the first one of a sweep.
        mistake = _mistake(error)
        if mistake is None:
            write_status(run_dir, "failed", f"{type(error).__name__}: {error}")
            log.exception("Error: %s failed (%s). Its folder: %s", hydra.job.name, error, run_dir)
        elif (run_dir / layout.METRICS).exists():
            # A finished run was to be resumed, and is as good as before.
            for path, content in before.items():
                path.write_bytes(content)
            log.error("Error: %s", mistake)
        else:
            write_status(run_dir, "failed", str(mistake))
            log.error("Error: %s", mistake)
    else:
        write_status(run_dir, "finished")
        return value if isinstance(value, float) and not math.isnan(value) else None
    return _failed(sweeps)


def _description(run_dir: Path) -> dict[Path, bytes]:
    """Return the files that describe the run which the directory holds already, if any."""
    paths = [run_dir / name for name in (layout.STATUS, layout.CONFIG, layout.PROVENANCE)]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def _mistake(error: BaseException | None) -> BaseException | None:
    """Return the user's mistake behind an error, if that is what it is; `instantiate` wraps what it meets."""
    while error is not None and not isinstance(error, ConfigError | OmegaConfBaseException):
        if isinstance(error, OSError) and error.errno in FULL:
            place = error.filename or "the run directory"
            return ConfigError(
                f"no space is left to write to ({place}: {error.strerror}). Make room and start again; a training goes "
                "on with ckpt_path=auto."
            )
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            place = error.filename or "the run directory"
            return ConfigError(
                f"{place} cannot be read or written ({error.strerror}). Check the disk and the rights to it, or choose "
                "another folder."
            )
        error = error.__cause__
    return error


def _describe(run_dir: Path, cfg: DictConfig) -> None:
    quiet_known_warnings()
    write_config(run_dir, cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)))
    hydra = HydraConfig.get()
    choices = OmegaConf.to_container(hydra.runtime.choices)
    if not isinstance(choices, dict):
        raise TypeError("hydra.runtime.choices is not a mapping")
    groups = {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}
    update_provenance(run_dir, **environment(list(hydra.overrides.task), groups))


def quiet_known_warnings() -> None:
    """Silence Lightning's advertisements, lists of requests, and warnings about what is done on purpose."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # each request of huggingface_hub, which draws a bar
    # A frozen backbone stays in evaluation mode.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    # Few workers are a choice: small images from a memory map load faster than processes exchange them.
    warnings.filterwarnings("ignore", message=r".*does not have many workers")
    # A machine may have Slurm without the run being one of its jobs.
    warnings.filterwarnings("ignore", message=r"The `srun` command is available")
    # A run directory may hold a checkpoint folder: that is what resuming means.
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=r"The dirpath has changed from")
    # Lightning 2.6.6 uses what torch 2.14 calls deprecated.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    # Epochs without validation are one of `trainer.check_val_every_n_epoch`.
    warnings.filterwarnings("ignore", message=r"ReduceLROnPlateau conditioned on metric .* which is not available")
    # Averaging weights takes the place of any schedule.
    warnings.filterwarnings("ignore", message=r"SWA is currently only supported every epoch")
    # Short runs are a choice, too.
    warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
