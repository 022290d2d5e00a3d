"""What the tests of the rooms below have already."""

from tests.inference.conftest import weights  # noqa: F401
