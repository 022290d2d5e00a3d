"""The GPU paths, as far as they can be followed without a GPU: devices, precision, transfer, and where tensors lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import move_data_to_device
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from src.engine.build import build_data, build_trainer, choose_precision, plain
from src.models.losses import CrossEntropy, MultiTaskLoss, partial_cross_entropy
from tests.helpers.running import tiny_config
from tests.models.conftest import CLASSES, MakeClassifier, MakeSpec, make_classifier, make_spec  # noqa: F401

HEADS = ("linear", "linear_flat", "linear_bottleneck", "self_attention", "multihead")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def two_gpus(monkeypatch):
    """Let torch and Lightning see two GPUs of capability 7.5, which nothing may compute on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_one_gpu(tmp_path, data_dir):
    cfg = tiny_config(tmp_path, data_dir, "trainer=gpu")
    precision = choose_precision(cfg)
    trainer = build_trainer(cfg, [], [], precision)
    assert precision == "16-mixed"  # bf16 from capability 8.0 on
    assert isinstance(trainer.accelerator, CUDAAccelerator)
    assert trainer.strategy.root_device == CUDA
    assert trainer.world_size == 1
    amp = trainer.precision_plugin
    assert isinstance(amp, MixedPrecision)
    assert amp.device == "cuda"
    assert amp.scaler is not None  # fp16's gradients would vanish without


@pytest.mark.usefixtures("two_gpus")
def test_several_gpus_and_nodes(tmp_path, data_dir):
    cfg = tiny_config(tmp_path, data_dir, "trainer=ddp", "trainer.num_nodes=3")
    trainer = build_trainer(cfg, [], [], choose_precision(cfg))
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy.parallel_devices == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert trainer.world_size == 6


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("trainer", "pinned"), [("gpu", True), ("cpu", False)])
def test_images_for_a_gpu_are_pinned(tmp_path, data_dir, trainer, pinned):
    cfg = tiny_config(tmp_path, data_dir, f"trainer={trainer}")
    data = build_data(cfg, transform=plain(cfg.transform), image_size=64)
    data.trainer = build_trainer(cfg, [], [], "32-true")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert loader.pin_memory is pinned


class Transfers(TorchDispatchMode):
    """Records the copies to a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[tuple[torch.Size, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and torch.device(kwargs.get("device", "cpu")).type == "cuda":
            self.copies.append((args[0].shape, kwargs.get("non_blocking", False)))
        return func(*args, **kwargs)


def put_on_gpu(model: nn.Module, fake: FakeTensorMode) -> None:
    """Do what `model.to("cuda")` would, which torch refuses for tensors without content."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    moved = fake.from_tensor(tensor).to(CUDA)
                    tensors[name] = nn.Parameter(moved) if isinstance(tensor, nn.Parameter) else moved


@pytest.mark.parametrize("head", HEADS)
def test_all_of_a_step_lies_on_the_gpu(tmp_path, data_dir, head, make_classifier: MakeClassifier, make_spec: MakeSpec):  # noqa: F811
    """Tensors without content, on a GPU by name: an operation that mixes them with the CPU's is refused.

    MixUp and CutMix are left out: they draw numbers, which have no content here either.
    """
    cfg = tiny_config(tmp_path, data_dir)
    data = build_data(cfg, transform=plain(cfg.transform), image_size=64, class_names=CLASSES)
    data.prepare_data()
    batch = next(iter(data.val_dataloader()))
    outputs = ("expression", "valence_arousal", "landmarks")
    spec = make_spec(head={"name": head, "valence_arousal": True}, outputs=outputs)
    model = make_classifier(spec, loss=MultiTaskLoss(CrossEntropy(class_counts=[1] * len(CLASSES))))
    with FakeTensorMode() as fake:
        put_on_gpu(model, fake)
        with Transfers() as transfers:
            moved = move_data_to_device({k: fake.from_tensor(v) for k, v in batch.items()}, CUDA)
        served = data.on_after_batch_transfer(moved, 0)
        fractions = torch.rand(len(batch["label"]), len(CLASSES), device=CUDA)
        prediction = model.predict_batch(served)
        loss = model._loss(prediction, served) + partial_cross_entropy(prediction.logits, fractions)
        probabilities = model.probabilities(prediction)
        with pytest.raises(RuntimeError, match=r"same device|different devices"):
            prediction.logits + torch.zeros(len(CLASSES))
    assert len(prediction.heatmaps) == 1
    assert {t.device for t in (loss, probabilities, prediction.valence)} == {CUDA}
    assert len(transfers.copies) == len(batch)
    assert all(non_blocking for _, non_blocking in transfers.copies)
    assert moved["image"].dtype == torch.uint8  # a quarter of what floats would take


@pytest.mark.parametrize("head", HEADS)
def test_steps_in_half_precision(head, make_classifier: MakeClassifier, make_spec: MakeSpec):  # noqa: F811
    """What `16-mixed` does on a GPU without bf16: fp16 autocast and scaled gradients, here on the CPU."""
    model = make_classifier(
        make_spec(head={"name": head}), loss=MultiTaskLoss(CrossEntropy(class_counts=[1] * len(CLASSES)))
    ).train()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=1e-3), torch.amp.GradScaler("cpu", init_scale=64.0)
    before = [p.detach().clone() for p in model.parameters()]
    batch = {"image": torch.rand(4, 3, 64, 64), "label": torch.arange(4)}
    with torch.autocast("cpu", torch.float16):
        prediction = model.predict_batch(batch)
        loss = model._loss(prediction, batch)
    assert prediction.logits.dtype == torch.float16
    assert loss.dtype == model.probabilities(prediction).dtype == torch.float32
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    with torch.autocast("cpu", enabled=False):
        exact = model.predict_batch(batch).logits
    torch.testing.assert_close(prediction.logits.float(), exact, atol=0.05, rtol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    scaler.step(optimizer)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
