"""TensorBoard: event files in the run directory, which go nowhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from src.loggers.hyperparameters import flattened, hyperparameters
from src.loggers.results_logger import final_numbers, moved_forward
from src.utils.errors import ConfigError
from src.utils.extras import require_extra
from src.utils.processes import is_main_process

# End of the name of the event file with the outcome. TensorBoard takes the first table of options and metrics that it
# finds: a run that goes on removes this file, and writes another one.
OUTCOME = ".outcome"


class TensorBoardResults(TensorBoardLogger):
    """Lightning's logger, with a run's figures, and its options and final numbers for the tab HPARAMS."""

    takes_images = True

    def __init__(self, save_dir: str, sweep: str | None) -> None:
        """Create the logger, and the first of the run's event files.

        Args:
            save_dir: Run directory; the files go to `tensorboard/` in it.
            sweep: Name of the sweep whose job the run is, None for a single run.
        """
        super().__init__(save_dir, name=None, version="tensorboard", default_hp_metric=False)
        self._sweep, self._step = sweep, 0
        self.experiment.flush()

    def start_at(self, step: int) -> None:
        """Begin an event file that takes the place of what earlier ones have from this step on."""
        self.experiment.close()
        self.experiment.purge_step = step
        for file in Path(self.log_dir).glob(f"*{OUTCOME}"):
            file.unlink()
        self._step = max(step - 1, 0)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at a step, which never goes back."""
        metrics, self._step = moved_forward(metrics, step, self._step)
        super().log_metrics(metrics, self._step)

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]  # dictionaries only
        """Keep the configuration as `hparams` until there are numbers to show beside it."""
        super().log_hyperparams(flattened(hyperparameters(params, Path(self.save_dir))))

    def log_file(self, path: Path) -> None:
        """Show a figure."""
        if path.suffix == ".png":
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self.experiment.add_image(f"figures/{path.stem}", pixels, self._step, dataformats="HWC")

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Log all numbers; those of the whole split are the metrics of the tab HPARAMS, with the configuration."""
        numbers = final_numbers(results)
        shown = {k: v for k, v in numbers.items() if "/f1/" not in k and not k.endswith(("/low", "/high"))}
        self.log_metrics({k: v for k, v in numbers.items() if k not in shown}, self._step)
        self.experiment.close()
        self.experiment.filename_suffix = OUTCOME
        super().log_hyperparams(dict(self.hparams), shown, self._step)
        self.experiment.close()

    def finalize(self, status: str) -> None:
        """Write what is left, in the file that those go on with who evaluate after a fit."""
        self.save()

    def closing_lines(self) -> list[str]:
        """Return how to look at the run; at all jobs of its sweep, if it is one of them."""
        folder = Path(self.save_dir)
        return [f"TensorBoard: tensorboard --logdir {shlex.quote(str(folder.parent if self._sweep else folder))}"]


def open_tensorboard(save_dir: str, sweep: str | None) -> TensorBoardResults | None:
    """Open the event files of a run.

    Args:
        save_dir: Run directory.
        sweep: Name of the sweep whose job the run is, None for a single run.

    Returns:
        The logger, or None in processes other than the main one.

    Raises:
        ConfigError: If the extra is not installed, or the files cannot be written.
    """
    if not is_main_process():
        return None
    require_extra("tensorboard")
    try:
        return TensorBoardResults(save_dir, sweep)
    except OSError as error:
        raise ConfigError(
            f"logger=tensorboard cannot write to {error.filename or save_dir} ({error.strerror or error}); expected a "
            "folder. Remove it, choose another hydra.run.dir, or another logger."
        ) from error
