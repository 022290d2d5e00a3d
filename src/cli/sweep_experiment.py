"""The options of a sweep's best job, as an experiment: values, but no code, as a sweep's folder may be a stranger's."""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from src.runs import layout
from src.runs.config import is_plain, read_config
from src.runs.records import read_provenance
from src.utils.atomic_files import write_text
from src.utils.errors import ConfigError
from src.utils.groups import CONF
from src.utils.paths import plain_name

# Keys that belong to one run, not to what it does.
OF_ONE_RUN = ("run_dir", "ckpt_path", "sweep")
# Keys that import modules, compose other files, or set up Hydra itself.
OF_THE_COMMAND_LINE = ("plugins", "defaults", "hydra")


def write_experiment(sweep: Path, run_dir: Path, task: str) -> list[str]:
    """Write what a job's configuration has that the defaults have not, as `experiment/best.yaml`.

    Args:
        sweep: Folder of the sweep, which becomes a `--config-dir`.
        run_dir: Folder of the job.
        task: Its entry point.

    Returns:
        Keys that are left out: they name code that `conf/` does not, or hold interpolations.

    Raises:
        ConfigError: If the job's choices are not options of `conf/`, or the folder has settings of a machine.
    """
    if (sweep / "local").exists():  # Hydra would read it without being told
        raise ConfigError(f"{sweep / 'local'} is not of a sweep's making, and could run code; remove it.")
    defaults = compose(task, return_hydra_config=True)
    usual = defaults.hydra.runtime.choices
    # What an experiment or a search chose is among the choices and values of the job.
    choices = _read_choices(run_dir, [group for group in usual if group in defaults and group != "sweep"])
    config = read_config(run_dir)
    where = config.get("run_dir")
    try:
        base = compose(task, [f"{group}={option}" for group, option in choices.items()])
        with open_dict(base):
            base.run_dir = where if isinstance(where, str) and is_plain(where) else str(run_dir)
        wanted = {key: value for key, value in config.items() if key not in OF_ONE_RUN}
        targets, left_out = _known_targets(), dict[str, None]()
        own = _difference(_without_run(base, resolve=False), wanted, targets, left_out)
        with open_dict(base):
            base.merge_with(own)
        # Keys that link to others follow them, whatever these are set to next time, unless they were set themselves.
        linked = _difference(_without_run(base, resolve=True), wanted, targets, left_out)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"the choices in {run_dir / layout.PROVENANCE} do not compose: {error}") from error
    delta = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(own, linked)))
    for key in OF_THE_COMMAND_LINE:
        if delta.pop(key, None):
            left_out[key] = None
    changed = [{f"override /{group}": option} for group, option in choices.items() if usual[group] != option]
    path = sweep / layout.BEST_EXPERIMENT
    path.parent.mkdir(exist_ok=True)
    head = f"# @package _global_\n# The best job of a sweep, {plain_name(run_dir.name)}: src.{task} experiment=best\n"
    content = {"defaults": changed, **delta} if changed else delta
    write_text(path, head + OmegaConf.to_yaml(OmegaConf.create(content)))
    return list(left_out)


def _read_choices(run_dir: Path, groups: list[str]) -> dict[str, str]:
    """Return the options that a job has chosen of groups.

    Raises:
        ConfigError: If one is no name: Hydra would read the file that a path leads to.
    """
    file = run_dir / layout.PROVENANCE
    known = read_provenance(run_dir).get("choices", {})
    choices = {group: known[group] for group in groups if known.get(group) is not None}
    for group, option in choices.items():
        if not re.fullmatch(r"[\w-]+(/[\w-]+)*", str(option)):
            raise ConfigError(f"{file}: {group}={option} is no name of an option; expected one of conf/{group}.")
    return choices


def _known_targets() -> Set[str]:
    """Return the classes and functions that `conf/` names."""
    texts = (file.read_text(encoding="utf-8") for file in CONF.rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"_target_: ([\w.]+)", text)}


def _difference(
    usual: dict[str, Any], theirs: dict[str, Any], targets: Set[str], left_out: dict[str, None], above: str = ""
) -> dict[str, Any]:
    """Return the entries of a nested mapping that another one has not, or has otherwise; None for missing ones.

    What the other one links to elsewhere counts as the same.
    """
    delta: dict[str, Any] = {key: None for key in usual if key not in theirs}
    for key, value in theirs.items():
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            below = _difference(usual[key], value, targets, left_out, f"{above}{key}.")
            if below:
                delta[key] = below
        elif key in usual and (value == usual[key] or _is_link(usual[key])):
            continue
        elif is_plain({key: value}, targets):
            delta[key] = value
        else:
            left_out[f"{above}{key}"] = None
    return delta


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _without_run(cfg: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """Return a configuration without what belongs to one run."""
    content = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))
    return {key: value for key, value in content.items() if key not in OF_ONE_RUN}
