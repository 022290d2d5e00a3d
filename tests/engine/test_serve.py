"""What the demo does before it serves."""

import pytest

from src.engine.serve import _fetched
from src.models.weights import save_safetensors
from src.utils.errors import ConfigError
from tests.exporting.tiny import tiny_model


@pytest.mark.slow
def test_models_of_the_hub_are_fetched_by_another_process(hub, tmp_path):
    save_safetensors(tiny_model(), tmp_path / "own.safetensors")
    content = (tmp_path / "own.safetensors").read_bytes()
    hub.add("me/model", {"own.safetensors": content})
    others = ["a.safetensors", "outputs/runs/*"]
    assert _fetched(others) == others
    assert not hub.requests
    first, *rest = _fetched(["hf://me/model", *others])
    assert rest == others
    with open(first, "rb") as file:
        assert file.read() == content
    with pytest.raises(ConfigError, match=r"models=hf://me/nowhere: there is no such repository"):
        _fetched(["hf://me/nowhere"])
