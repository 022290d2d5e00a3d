"""What a run starts from."""

import pytest

from src.engine.load import starting_weights, weights_origin
from src.models.weights import weights_digest
from src.utils.checksums import git_blob_id
from src.utils.errors import ConfigError
from src.utils.paths import ROOT


def test_missing_own_weights_name_their_argument(tmp_path):
    with pytest.raises(ConfigError, match=r"backbone\.weights=.*does not exist"):
        starting_weights(str(tmp_path / "run"))


def test_weights_of_the_hub_are_started_from(hub):
    path = ROOT / "pretrained" / "emonet_fer_small.safetensors"
    repository = hub.add("me/small", {"own.safetensors": path.read_bytes(), "own.pth": b""})
    start, expected = starting_weights("hf://me/small"), starting_weights(str(path))
    assert weights_digest(start.state) == weights_digest(expected.state)
    origin = {"weights": git_blob_id(path), "weights_commit": repository.refs["main"]}
    assert weights_origin("hf://me/small") == origin
    assert weights_origin(str(path)) == {"weights": origin["weights"]}
    with pytest.raises(ConfigError, match=r"own\.pth: only \.safetensors files are taken"):
        starting_weights("hf://me/small/own.pth")
