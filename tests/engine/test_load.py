"""What a run starts from."""

import pytest

from src.engine.load import starting_weights
from src.utils.errors import ConfigError


def test_missing_own_weights_name_their_argument(tmp_path):
    with pytest.raises(ConfigError, match=r"backbone\.weights=.*does not exist"):
        starting_weights(str(tmp_path / "run"))
