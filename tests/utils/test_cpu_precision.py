"""Half precision on a CPU: its numbers, without its slow kernels."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from src.utils.cpu_precision import RoundedConvolutions, autocast


class Convolutions(TorchDispatchMode):
    """Notes the types that convolutions and their gradients are computed in."""

    def __init__(self):
        super().__init__()
        self.forward, self.backward = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.forward.add(args[0].dtype)
        if func is torch.ops.aten.convolution_backward.default:
            self.backward.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False))


def step(network, context):
    """Outputs and gradients of a step, and the types of its convolutions."""
    network = copy.deepcopy(network)
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with Convolutions() as types:
        with context:
            output = network(image)
        output.float().square().sum().backward()
    return output, [p.grad for p in network.parameters()], types


# Instructions of the processor, and in which type convolutions are then computed.
PROCESSORS = {"none": ({}, torch.float32), "AMX": ({"amx_bf16": True}, torch.bfloat16)}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_bf16_is_emulated_only_where_it_is_not_native(network, processor, monkeypatch):
    capabilities, expected = PROCESSORS[processor]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    output, _, types = step(network, autocast("cpu", "bf16-mixed"))
    assert output.dtype == torch.bfloat16
    assert types.forward == types.backward == {expected}


def test_fp16_gradients_are_computed_in_float32(network, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_fp16": True})
    output, _, types = step(network, autocast("cpu", "16-mixed"))
    assert output.dtype == torch.float16
    assert types.forward == types.backward == {torch.float32}


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_full_precision_is_left_alone(network, precision):
    output, _, types = step(network, autocast("cpu", precision))
    assert output.dtype == torch.float32
    assert types.forward == {torch.float32}


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float16, 10), (torch.bfloat16, 7)])
def test_the_numbers_are_those_of_half_precision(network, dtype, bits):
    """What PyTorch's own kernels give; the gradients are those of float32, within rounding."""
    half = torch.autocast("cpu", dtype, cache_enabled=False)
    expected, _, _ = step(network, half)
    with half:
        found, gradients, _ = step(network, RoundedConvolutions(dtype))
    exact, exact_gradients, _ = step(network, autocast("cpu", "32-true"))
    torch.testing.assert_close(found, expected, atol=2.0**-bits * float(expected.detach().abs().max()), rtol=2.0**-bits)
    assert not torch.equal(found.float(), exact)
    for gradient, reference in zip(gradients, exact_gradients, strict=True):
        assert (gradient - reference).norm() <= 8 * 2.0**-bits * max(float(reference.norm()), 1.0)


def test_what_half_precision_cannot_hold_overflows_as_on_a_gpu():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(layer.weight, 300.0)
    with torch.no_grad(), autocast("cpu", "16-mixed"):
        assert layer(torch.full((1, 1, 1, 1), 300.0)).isinf().all()
