"""Trains, resumes, tests and predicts on a Linux that refuses what Windows and macOS would.

    python -m tests.helpers.other_systems <folder> <image>

For code of `src`: modules that Windows lacks, `/proc`, symbolic links and files opened in the encoding that the system
happens to have. For all code: forks, and replacing or removing a file that this process still has open or mapped. The
last line of the output is a JSON list of such attempts. The start is in `tests/test_other_systems.py`.
"""

from __future__ import annotations

import builtins
import importlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

MISSING = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses"}
STANDARD = (sysconfig.get_path("stdlib"), "<frozen")
refused: list[str] = []
own_import = builtins.__import__


def impose() -> None:
    """Refuse from here on; there is no way back."""
    builtins.__import__ = guarded_import
    os.stat = guarded_stat(os.stat)  # type: ignore[assignment]
    sys.addaudithook(audit)
    multiprocessing.set_start_method("spawn", force=True)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"src\.")


def guarded_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if level == 0 and name.split(".")[0] in MISSING and str((globals or {}).get("__name__")).startswith("src"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return own_import(name, globals, locals, fromlist, level)


def guarded_stat(stat: Any) -> Any:
    def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
        if is_proc(path) and called_by_src(sys._getframe(1)):
            raise FileNotFoundError(path)
        return stat(path, *args, **kwargs)

    return guarded


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and is_proc(arguments[0]) and called_by_src(sys._getframe(1)):
        raise FileNotFoundError(arguments[0])
    if event == "os.symlink" and called_by_src(sys._getframe(1)):
        raise OSError("symbolic links need a privilege")
    if event in ("os.fork", "os.forkpty"):
        raise OSError("there is no fork")
    if event == "os.rename":
        refuse_if_open(event, arguments[0], arguments[2])
        refuse_if_open(event, arguments[1], arguments[3])
    if event == "os.remove":
        refuse_if_open(event, arguments[0], arguments[1])


def is_proc(path: Any) -> bool:
    return not isinstance(path, int) and os.fsdecode(path).startswith("/proc")


def called_by_src(frame: FrameType | None) -> bool:
    """Whether the first caller outside of Python's own library is a module of `src`."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(STANDARD) or "site-packages" in file:
            return str(frame.f_globals.get("__name__")).startswith("src")
        frame = frame.f_back
    return False


def refuse_if_open(event: str, name: Any, folder: int) -> None:
    base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    path = os.path.realpath(os.path.join(base, os.fsdecode(name)))
    held = next((file for file in open_files() if file == path or file.startswith(path + os.sep)), None)
    if held is not None:
        # Whoever ignores the error is found out, too.
        refused.append(f"{event} {path}, as {held} is open:\n{''.join(traceback.format_stack(limit=12)[:-2])}")
        raise PermissionError(13, "The process cannot access the file because it is being used", path)


def open_files() -> Iterator[str]:
    """Yield the files that this process has open or mapped."""
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            yield os.readlink(f"/proc/self/fd/{descriptor}")
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/"):
                yield fields[5]


def check_the_refusals(folder: Path) -> None:
    """Try what is to be refused, and what is not."""
    of_src = {"__name__": "src.module"}
    attempts = {
        "import fcntl": ModuleNotFoundError,
        "open('/proc/self/status', encoding='utf-8')": FileNotFoundError,
        "import os; os.symlink('a', 'b')": OSError,
        "import os; os.fork()": OSError,
    }
    for code, error in attempts.items():
        with suppress(error):
            exec(compile(code, "<module of src>", "exec"), dict(of_src))
            raise AssertionError(f"{code} was not refused")
    exec(compile("import fcntl", "<module of others>", "exec"), {"__name__": "others"})
    (folder / "free").write_bytes(b"")
    with (folder / "open").open("wb"), suppress(PermissionError):
        (folder / "free").replace(folder / "open")
        raise AssertionError("an open file was replaced")
    refused.clear()


def start(entry: str, *overrides: str) -> None:
    """Run an entry point in this process, as `python -m` would."""
    sys.argv = [f"src.{entry}", *overrides]
    runpy.run_module(f"src.{entry}", run_name="__main__", alter_sys=True)


def main(folder: Path, image: Path) -> None:
    impose()
    check_the_refusals(folder)
    import src
    from src.models.weights import build_from_weights, load_weights, save_safetensors
    from tests.helpers.running import TINY

    for module in pkgutil.walk_packages(src.__path__, "src."):
        importlib.import_module(module.name)
    tiny = [option for option in TINY if not option.startswith(("logger", "trainer.max_epochs"))]
    options = [*tiny, f"data_dir={folder / 'data'}", "logger=csv", "backbone.freeze=all", "transform=flip"]
    options += ["cache=true", "head=self_attention", "trainer.precision=32-true"]
    run, straight = f"hydra.run.dir={folder / 'run'}", f"hydra.run.dir={folder / 'straight'}"
    start("train", *options, run, "trainer.max_epochs=1", "data.num_workers=1", "test=false")
    start("train", *options, run, "trainer.max_epochs=2", "ckpt_path=last")
    start("train", *options, straight, "trainer.max_epochs=2")
    model = f"ckpt_path={folder / 'run'}"
    start("eval", model, "trainer=cpu", f"data_dir={folder / 'data'}", f"hydra.run.dir={folder / 'eval'}")
    start("predict", f"input={image}", "detector=none", model, f"hydra.run.dir={folder / 'predicted'}")
    # What weights were loaded from may be written again while they are in use.
    best = folder / "run" / "checkpoints" / "best.safetensors"
    weights = load_weights(best)
    save_safetensors(build_from_weights(weights), best)
    print(json.dumps(refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
