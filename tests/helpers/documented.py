"""What README and documentation tell a user to type: found in their text, and checked without being run."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from src.cli.command_line import check_command_line
from src.cli.resolvers import register_resolvers
from src.cli.validation import validate_config
from src.utils.paths import ROOT

README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md"]
DOCUMENTS += [path for folder in ("docs", "pretrained") for path in sorted((ROOT / folder).rglob("*.md"))]
EXAMPLES = ROOT / "examples"

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(python -m .*)$", re.MULTILINE)
INLINE = re.compile(r"`((?:[A-Z0-9_]+=\S+ )*(?:python|make|pytest) [^`]+)`")
PLACEHOLDER = re.compile(r"<[^<>\n]+>")
ASSIGNMENT = re.compile(r"[A-Z0-9_]+=.*")
# What is not ours, and leaves nothing to check.
OTHERS = ("git", "cd", "source", "pre-commit", "uvx")


class Wrong(Exception):
    """A command that cannot work; the message says why."""


class Block(NamedTuple):
    """A fenced block: its language, what stands behind it, and its text."""

    language: str
    title: str
    text: str


def blocks(path: Path, language: str) -> list[Block]:
    """Return the fenced blocks of a language."""
    found = [Block(*match) for match in FENCE.findall(path.read_text())]
    return [block for block in found if block.language == language]


def section(path: Path, heading: str) -> str:
    """Return the text below a heading of the second level."""
    return path.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commands(path: Path) -> list[str]:
    """Return every command of a document: of its bash blocks, of its indented ones, and between backticks."""
    prose = FENCE.sub("", path.read_text())
    lines = [line for block in blocks(path, "bash") for line in split_lines(block.text)]
    return [*lines, *INDENTED.findall(prose), *(" ".join(span.split()) for span in INLINE.findall(prose))]


def outside_commands(path: Path) -> list[str]:
    """Return the commands of a document that want files which are not ours: those of its sh blocks."""
    return [line for block in blocks(path, "sh") for line in split_lines(block.text)]


def split_lines(text: str) -> list[str]:
    """Return the commands of a block, those over several lines in one piece."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def words(command: str) -> Iterator[list[str]]:
    """Yield the words of each part of a command; placeholders become a name, and what is left out goes."""
    part: list[str] = []
    for word in [*shlex.split(PLACEHOLDER.sub("name", command), comments=True), "&&"]:
        if word == "&&":
            yield part
            part = []
        elif word != "..." and (part or not ASSIGNMENT.fullmatch(word)):
            part.append(word)


def check_command(command: str, folder: Path, configs: Sequence[Path] = (), composed: bool = True) -> None:
    """Check what a user is told to type.

    Args:
        command: A line.
        folder: Where nothing lies, and something may be written.
        configs: Further folders of configuration.
        composed: Whether the configuration must compose, and its values be right.

    Raises:
        Wrong: If it cannot work.
        Exception: Whatever Hydra or the configuration's checks say of it.
    """
    for program, *arguments in words(command):
        name = Path(program).name
        if name in ("python", "python3") and arguments[:1] == ["-m"]:
            config = _check_module(arguments[1], arguments[2:])
            if config is not None and composed:
                _compose(config, arguments[2:], folder, configs)
        elif name == "make":
            _check_make(arguments)
        elif name in ("pip", "pytest", "cp"):
            {"pip": _check_pip, "pytest": _check_paths, "cp": _check_paths}[name](arguments)
        elif name not in OTHERS:
            raise Wrong(f"no test knows how to check {program}")


def _check_module(module: str, arguments: Sequence[str]) -> str | None:
    """Return the configuration of a module of ours that has one."""
    if module == "venv":
        return None
    if module == "pip":
        _check_pip(arguments)
        return None
    path = ROOT / Path(*module.split("."))
    code = "".join(file.read_text() for file in (path.with_suffix(".py"), path / "__main__.py") if file.is_file())
    if 'if __name__ == "__main__":' not in code:
        raise Wrong(f"there is no command {module}")
    configured = re.search(r'config_name="(\w+)"', code)
    if configured is None or "--help" in arguments:
        return None
    check_command_line(arguments)
    return configured[1]


def _compose(name: str, arguments: Sequence[str], folder: Path, configs: Sequence[Path]) -> None:
    """Compose each job of a command, and check its values."""
    sweeps = "-m" in arguments
    extra = [path.as_posix() for path in configs]
    for argument in arguments:
        if argument.startswith("--config-dir="):
            extra.append(_sweep_folder(folder).as_posix())
    overrides = [one for one in arguments if one != "-m" and not one.startswith("--config-dir=")]
    if extra:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{path}' for path in extra)}]")
    register_resolvers()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        for job in _jobs(overrides) if sweeps else [overrides]:
            cfg = compose(name, overrides=[*job, f"run_dir={folder.as_posix()}"], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            OmegaConf.to_container(cfg, resolve=True)
            validate_config(cfg)


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Return jobs in which every swept value occurs; of an interval, its start."""
    choices = []
    for text in overrides:
        override = OverridesParser.create().parse_override(text)
        if override.is_interval_sweep():
            choices.append([f"{override.key_or_group}={override.value().start}"])
        elif override.is_sweep_override():
            choices.append([f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([text])
    return [[values[i % len(values)] for values in choices] for i in range(max(map(len, choices)))]


def _sweep_folder(folder: Path) -> Path:
    """Return a folder with what the summary of a sweep leaves behind: its best job as an experiment."""
    best = folder / "sweep" / "experiment" / "best.yaml"
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_text("# @package _global_\noptimizer:\n  lr: 0.001\n")
    return folder / "sweep"


def _check_make(arguments: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for argument in arguments:
        variable, equals, _ = argument.partition("=")
        known = (
            f"$({variable})" in makefile if equals else re.search(rf"^{re.escape(argument)}:", makefile, re.MULTILINE)
        )
        if not known:
            raise Wrong(f"the Makefile knows no {variable}")


def _check_pip(arguments: Sequence[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(arguments)):
        for extra in extras.split(","):
            if extra not in known:
                raise Wrong(f"pyproject.toml has no extra {extra}")


def _check_paths(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if "/" in argument and not (ROOT / argument).exists():
            raise Wrong(f"there is no {argument}")
