"""What the tests of the rooms below have already."""

from tests.explanation.conftest import faces, synthetic_data, synthetic_model  # noqa: F401
from tests.inference.conftest import weights  # noqa: F401
