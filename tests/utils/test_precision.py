import pytest
import torch

from src.utils.errors import ConfigError
from src.utils.precision import resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true")],
)
def test_auto_takes_what_the_processor_has(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bf16-mixed"), ((7, 5), "16-mixed")])
def test_auto_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert resolve_precision("auto", "gpu") == expected


def test_short_forms_and_mistakes():
    assert resolve_precision(32, "cpu") == "32-true"
    assert resolve_precision("bf16", "cpu") == "bf16-mixed"
    with pytest.raises(ConfigError, match="int8"):
        resolve_precision("int8", "cpu")
