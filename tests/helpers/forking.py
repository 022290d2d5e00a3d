"""Commands as a user starts them, but without the seconds that importing torch takes each time.

A server imports it once, and nothing else happens in it; each command is a process forked from that.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from src.utils.paths import ROOT

SECONDS = 300
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["src.engine.fit", "src.engine.evaluate", "src.cli.sweep_summary", "src.engine.predict"])


def run_forked(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` and wait for its end, as `subprocess.run` with text that is captured.

    Args:
        module: Module to run.
        *arguments: Its arguments.
        env: All environment variables.
        cwd: Folder to start in.
        before: A function of a module that the process calls first.
    """
    with TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        process = FORKS.Process(target=_run, args=(module, arguments, dict(env), cwd, files, before))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([module, *arguments], SECONDS, *(file.read_bytes() for file in files))
        return subprocess.CompletedProcess(
            [module, *arguments], process.exitcode, *(file.read_text() for file in files)
        )


def _run(
    module: str,
    arguments: tuple[str, ...],
    env: dict[str, str],
    cwd: Path,
    files: list[Path],
    before: Callable[[], None] | None,
) -> None:
    import torch

    atexit._clear()  # what the server registered is the server's
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    sys.argv = [module, *arguments]
    if before:
        before()
    try:
        runpy.run_module(module, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves it out
