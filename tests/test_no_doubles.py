"""Nothing that a GPU computes needs double precision, which Apple's have not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.engine.fit import fit_and_test
from src.metrics import affect
from src.models.classifier import ExpressionClassifier
from src.models.losses import partial_cross_entropy
from src.models.test_time import views
from tests.helpers.running import tiny_config


class OnCpu(Tensor):
    """What has been brought to the CPU, and all that is computed from it."""


class NoDoubles(TorchDispatchMode):
    """Refuses operations that take or give numbers in double precision, but for what has been brought to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        given = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor)]
        made = func(*args, **(kwargs or {}))
        self.operations += 1
        tensors = [*given, *(value for value in tree_leaves(made) if isinstance(value, Tensor))]
        doubles = any(t.dtype in (torch.float64, torch.complex128) for t in tensors)
        if doubles and not any(isinstance(value, OnCpu) for value in given):
            raise TypeError(f"{func}: this device has no double precision")
        return made


@pytest.fixture
def no_doubles(monkeypatch):
    """The CPU as such a GPU: agreement alone may be double, once its values have been brought to the CPU."""
    bring, agreement = Tensor.cpu, affect.agreement

    def agreement_on_cpu(*values: Tensor) -> dict[str, Tensor]:
        return {name: value.as_subclass(Tensor) for name, value in agreement(*values).items()}

    def compute(self: affect.AffectAgreement) -> dict[str, Tensor]:
        with monkeypatch.context() as within:
            within.setattr(Tensor, "cpu", lambda self: bring(self).as_subclass(OnCpu))
            return computed(self)

    computed = affect.AffectAgreement.compute
    monkeypatch.setattr(affect, "agreement", agreement_on_cpu)
    monkeypatch.setattr(affect.AffectAgreement, "compute", compute)
    with NoDoubles() as mode:
        yield mode


OPTIONS = {
    "landmarks": ["loss=cross_entropy", "loss.label_smoothing=0.1", "backbone.landmarks=true", "callbacks=ema"],
    "mixed": ["loss=focal", "transform=strong", "transform.mixup=0.5", "transform.cutmix=0.5", "optimizer=adamw"],
}


@pytest.mark.parametrize("options", OPTIONS)
def test_training_validation_and_test(tmp_path, data_dir, monkeypatch, no_doubles, options):
    steps = dict.fromkeys(("training_step", "validation_step", "test_step"), 0)
    for name in steps:
        monkeypatch.setattr(ExpressionClassifier, name, counted(getattr(ExpressionClassifier, name), steps))
    more = ["trainer.max_epochs=1", "head.valence_arousal=true", "loss.class_weights=balanced"]
    results = fit_and_test(tiny_config(tmp_path, data_dir, *more, *OPTIONS[options]))
    assert all(steps.values())
    assert 0 <= results["test/valence_rmse"] <= 2  # computed in double precision, on the CPU


def counted(step: Any, steps: dict[str, int]) -> Any:
    def run(self: ExpressionClassifier, batch: dict[str, Tensor], batch_idx: int) -> Any:
        steps[step.__name__] += 1
        assert not any(value.dtype == torch.float64 for value in batch.values())
        return step(self, batch, batch_idx)

    return run


def test_votes_and_views(no_doubles):
    logits = torch.randn(4, 8, requires_grad=True)
    target = torch.full((4, 8), torch.nan)
    target[:2] = torch.rand(2, 8).softmax(dim=1)
    partial_cross_entropy(logits, target).backward()
    assert logits.grad is not None
    assert len(views(torch.rand(2, 3, 64, 64), "crops")) > 1


@pytest.mark.parametrize(
    "make",
    [lambda: torch.rand(3).double(), lambda: torch.zeros(3, dtype=torch.float64), lambda: torch.tensor(0.5).double()],
)
def test_doubles_are_found(no_doubles, make):
    with pytest.raises(TypeError, match="no double precision"):
        make()
    torch.rand(3).as_subclass(OnCpu).double().mean()
