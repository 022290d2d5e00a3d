"""Decisions about precision, on machines that this one pretends to be."""

import pytest
import torch

from src.utils.errors import ConfigError
from src.utils.precision import device_kind, resolve_precision

# Processor, capability of its CUDA GPU, whether it has Apple's; then what `auto` takes on the CPU and anywhere.
MACHINES = {
    "CPU without bf16": ({"avx512": True, "avx512_vnni": True}, None, False, "32-true", "32-true"),
    "CPU with AVX512-bf16": ({"avx512_bf16": True}, None, False, "bf16-mixed", "bf16-mixed"),
    "CPU with AMX": ({"amx_bf16": True, "amx_tile": True}, None, False, "bf16-mixed", "bf16-mixed"),
    "T4": ({}, (7, 5), False, "32-true", "16-mixed"),
    "A100": ({"avx512_bf16": True}, (8, 0), False, "bf16-mixed", "bf16-mixed"),
    "Apple": ({}, None, True, "32-true", "32-true"),
}


@pytest.fixture(params=MACHINES)
def machine(request, monkeypatch):
    capabilities, cuda, mps, *expected = MACHINES[request.param]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    return expected


def test_auto_takes_what_the_machine_has(machine):
    on_cpu, anywhere = machine
    assert resolve_precision("auto", "cpu") == on_cpu
    assert resolve_precision("auto", "auto") == anywhere
    assert resolve_precision("auto", "gpu") == anywhere


@pytest.mark.parametrize("wanted", ["32-true", "bf16-mixed", "16-mixed", "64-true"])
def test_what_is_asked_for_counts_on_every_machine(machine, wanted):
    assert resolve_precision(wanted, "auto") == wanted


@pytest.mark.parametrize(("cuda", "anywhere", "cuda_alone"), [(False, "mps", "cpu"), (True, "cuda", "cuda")])
def test_devices(monkeypatch, cuda, anywhere, cuda_alone):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    found = [device_kind(name) for name in ("cpu", "auto", "gpu", "mps", "cuda")]
    assert found == ["cpu", anywhere, anywhere, "mps", cuda_alone]


def test_short_forms_and_mistakes():
    assert resolve_precision(32, "cpu") == "32-true"
    assert resolve_precision("bf16", "cpu") == "bf16-mixed"
    with pytest.raises(ConfigError, match="int8"):
        resolve_precision("int8", "cpu")
