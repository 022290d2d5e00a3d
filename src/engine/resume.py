"""Going on from a checkpoint: which one, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NotRequired

from annotated_types import Ge
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from typing_extensions import TypedDict

from src.models.classifier import SPEC_KEY, ExpressionClassifier
from src.models.spec import ModelSpec
from src.runs import layout
from src.runs.hub import is_on_hub
from src.utils.errors import ConfigError
from src.utils.schemas import checked
from src.utils.torch_files import read_checkpoint, require_finite

Plain = dict[str, Any]


class Checkpoint(TypedDict):
    """What of Lightning's checkpoints is looked at before Lightning reads them."""

    epoch: Annotated[int, Ge(0)]
    global_step: NotRequired[Annotated[int, Ge(0)]]
    loops: Plain
    callbacks: NotRequired[dict[str, Progress]]
    training_options: NotRequired[Plain]


class Progress(TypedDict):
    """What of a callback's state is looked at."""

    wait_count: NotRequired[int]


def find_resume_point(cfg: DictConfig) -> ResumePoint | None:
    """Return what `ckpt_path` means, None for a fresh start.

    Args:
        cfg: Configuration of `conf/train.yaml`.

    Raises:
        ConfigError: If it names something that cannot be resumed.
    """
    if cfg.ckpt_path is None:
        return None
    if cfg.ckpt_path == "auto" and not (Path(cfg.run_dir) / layout.LAST_CHECKPOINT).is_file():
        return None
    return ResumePoint(cfg)


class ResumePoint:
    """A checkpoint to go on from.

    Attributes:
        path: Its file.
        spec: Its model.
        step: The optimizer's next step, counted from 0.
        epochs_to_end: Number of epochs at which training ends, where it has stopped early; None elsewhere.
    """

    def __init__(self, cfg: DictConfig) -> None:
        """Find and read the checkpoint that `ckpt_path` means; refuse what needs neither data nor model to be seen.

        Args:
            cfg: Configuration of `conf/train.yaml`, with `ckpt_path` set.

        Raises:
            ConfigError: If there is no such checkpoint, it is broken, not finite, of another head, or has all epochs.
        """
        self._name = str(cfg.ckpt_path)
        self.path = self._find(cfg)
        content = read_checkpoint(self.path, "ckpt_path")
        checkpoint = checked(Checkpoint, content, f"ckpt_path={self._name} ({self.path})", "Expected a last.ckpt.")
        for part in ("state_dict", "current_model_state", "optimizer_states"):
            require_finite(content.get(part), self.path, part)
        self.spec = ModelSpec.from_dict(content.get(SPEC_KEY), self.path)
        self.step = checkpoint.get("global_step", 0)
        self._training: Plain = checkpoint.get("training_options", {})
        self._refuse_unless_equal("head", self.spec.head["name"], cfg.head.name)
        done = checkpoint["epoch"] + 1
        run_dir = Path(cfg.run_dir)
        untested = self.path == run_dir / layout.LAST_CHECKPOINT and not (run_dir / layout.METRICS).exists()
        may_end_here = untested or self._name == "auto"
        if done >= cfg.trainer.max_epochs and not may_end_here:
            raise ConfigError(
                f"trainer.max_epochs={cfg.trainer.max_epochs} is already reached: {self.path} has {done} "
                f"finished epochs. Set trainer.max_epochs above {done} to go on."
            )
        # A run that was killed after early stopping, before its test was over, has nothing to learn any more.
        self.epochs_to_end: int | None = done if may_end_here and _stopped_early(checkpoint, cfg) else None

    def _find(self, cfg: DictConfig) -> Path:
        if is_on_hub(self._name):
            raise ConfigError(
                f"ckpt_path={self._name}: a training goes on from the last.ckpt of a run, the Hub has weights alone; "
                f"start from them with backbone.weights={self._name}."
            )
        if self._name not in ("last", "auto"):
            return layout.find_checkpoint(self._name, layout.LAST_CHECKPOINT)
        path = Path(cfg.run_dir) / layout.LAST_CHECKPOINT
        if not path.is_file():
            raise ConfigError(
                f"ckpt_path=last, but {cfg.run_dir} holds no checkpoints/last.ckpt; set hydra.run.dir to the run to go "
                "on with, or leave ckpt_path out."
            )
        return path

    def check(self, model: ExpressionClassifier) -> None:
        """Refuse to go on with another model, other data or another way of training.

        Raises:
            ConfigError: If something differs.
        """
        theirs, ours = self.spec, model.spec
        self._refuse_unless_equal("head", theirs.head, ours.head)
        self._refuse_unless_equal("backbone", theirs.backbone, ours.backbone)
        self._refuse_unless_equal("outputs", theirs.outputs, ours.outputs)
        self._refuse_unless_equal("data.image_size", theirs.image_size, ours.image_size)
        self._refuse_unless_equal("classes", theirs.class_names, ours.class_names)
        self._refuse_unless_equal("data", theirs.trained_on, ours.trained_on)
        for key, value in model.training_options().items():
            self._refuse_unless_equal(key, self._training.get(key, value), value)

    @contextmanager
    def restored_by(self, trainer: Trainer) -> Iterator[None]:
        """Blame the checkpoint for what fails within the block before the first batch, while Lightning takes it on.

        Raises:
            ConfigError: If something of it is not as Lightning and the callbacks write it.
        """
        start = _Start()
        trainer.callbacks.append(start)  # type: ignore[attr-defined]
        try:
            yield
        except ConfigError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
            if start.reached:
                raise
            raise ConfigError(
                f"ckpt_path={self._name} ({self.path}) cannot be gone on from ({type(error).__name__}: {error}): it is "
                "damaged, or of another version. Use another last.ckpt, or start from its weights: "
                "backbone.weights=<the .ckpt>."
            ) from error

    def _refuse_unless_equal(self, what: str, theirs: Any, ours: Any) -> None:
        if theirs != ours:
            raise ConfigError(
                f"ckpt_path={self._name} ({self.path}) was trained with {what} {theirs}, not {ours}; resume with the "
                "same options, or start afresh without ckpt_path."
            )


class _Start(Callback):
    """Notices that nothing of a checkpoint is left to be read."""

    reached = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notice it."""
        self.reached = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notice it."""
        self.reached = True


def _stopped_early(checkpoint: Checkpoint, cfg: DictConfig) -> bool:
    """Return whether early stopping ended the training in this checkpoint's epoch."""
    stopping = cfg.callbacks.get("early_stopping")
    if not stopping:
        return False
    states = [state for name, state in checkpoint.get("callbacks", {}).items() if name.startswith("EarlyStopping")]
    return any(state.get("wait_count", 0) >= stopping.patience for state in states)
