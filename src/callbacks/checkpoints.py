"""Checkpoints of finished epochs: the best one and the last one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

from src.runs import layout

log = logging.getLogger(__name__)

FILES = (Path(layout.BEST_CHECKPOINT).name, Path(layout.LAST_CHECKPOINT).name)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation score as `best.ckpt`.

    A run that continues elsewhere takes the best checkpoint so far along, so that its score still counts.
    """

    def __init__(self, dirpath: str, monitor: str, mode: str) -> None:
        """Create the callback.

        Args:
            dirpath: Folder of the checkpoints.
            monitor: Validation metric to watch.
            mode: `max` or `min`: which value is best.
        """
        super().__init__(
            dirpath,
            filename=Path(FILES[0]).stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, copying its checkpoint if it lies in another run directory.

        Args:
            state_dict: State of which `keep_own_files` has made sure that it names nothing else.
        """
        here, best = Path(str(self.dirpath)), Path(state_dict["best_model_path"])
        if Path(state_dict["dirpath"]) != here and best.name == FILES[0] and best.is_file():
            here.mkdir(parents=True, exist_ok=True)
            moved = str(shutil.copy2(best, here / best.name))
            score = state_dict["best_model_score"]
            state_dict = {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": moved,
                "kth_best_model_path": moved,
                "best_k_models": {moved: score},
            }
        super().load_state_dict(state_dict)


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` after every epoch, the point from which a run resumes.

    `save_last` would not do: it writes only when the monitored metric improves.
    """

    def __init__(self, dirpath: str) -> None:
        """Create the callback.

        Args:
            dirpath: Folder of the checkpoints.
        """
        super().__init__(
            dirpath,
            filename=Path(FILES[1]).stem,
            monitor=None,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )


def keep_own_files(checkpoint: dict[str, Any], resumed: Path, own: Path) -> None:
    """Let the callbacks of a checkpoint name no file but `best.ckpt` and `last.ckpt` of two folders.

    What a callback's state names is copied, loaded, and removed for a better one: Lightning asks no questions of what
    lies behind `local://` or `http://`. A state that names anything else is dropped, with a warning.

    Args:
        checkpoint: Content of the checkpoint, changed in place.
        resumed: Folder that it lies in.
        own: Folder of this run's checkpoints.
    """
    states = checkpoint.get("callbacks")
    if not isinstance(states, dict):
        return
    for name, state in states.items():
        if isinstance(state, dict) and "best_model_path" in state:
            states[name] = _with_own_files(str(name), state, resumed.resolve(), own.resolve())


def _with_own_files(name: str, state: dict[str, Any], resumed: Path, own: Path) -> dict[str, Any]:
    """Return a state with the places that its files have now, {} if it names others."""
    try:
        named = {path: _find_own(path, state.get("dirpath"), resumed, own) for path in _named(state)}
    except (OSError, TypeError, ValueError, AttributeError):  # no state of Lightning's
        named = {"something else": ""}
    scores = state.get("best_k_models") or {}
    strange = [path for path, place in named.items() if not place]
    if strange or (scores and state.get("kth_best_model_path") not in scores):
        log.warning(
            "The checkpoint's %s names %s; expected best.ckpt or last.ckpt in %s. What it remembers, such as the best "
            "score, is left out.",
            *(name.split("{")[0], strange[0] if strange else "no best checkpoint", resumed),
        )
        return {}
    best = named.get(state["best_model_path"], "")
    return {
        **state,
        "dirpath": str(Path(best).parent) if best else str(own),
        "best_model_path": best,
        "kth_best_model_path": named.get(state.get("kth_best_model_path", ""), ""),
        "last_model_path": named.get(state.get("last_model_path", ""), ""),
        "best_k_models": {named[path]: score for path, score in scores.items()},
    }


def _named(state: dict[str, Any]) -> Iterator[str]:
    """Yield all paths that a state names."""
    keys = ("best_model_path", "kth_best_model_path", "last_model_path")
    yield from (path for path in (*(state.get(key) for key in keys), *(state.get("best_k_models") or {})) if path)


def _find_own(path: str, folder: str | None, resumed: Path, own: Path) -> str:
    """Return where a file that a state names lies, "" unless it is one of the two files of the two folders.

    Args:
        path: What the state names.
        folder: Where the run kept its checkpoints when it wrote the state; it may have been moved since.
        resumed: Folder of the checkpoint with the state.
        own: Folder of this run's checkpoints.
    """
    given = Path(path)
    moved = folder is not None and given.is_absolute() and given.parent == Path(folder)
    places = [place for place in (own, resumed) if given.parent == place] or [resumed] * moved
    files = [place / given.name for place in places if given.name in FILES]
    # The last one is written anew whatever becomes of it; the best one must be there, and be no link to another file.
    known = (file for file in files if file.name == FILES[1] or (file.is_file() and not file.is_symlink()))
    return next(map(str, known), "")
