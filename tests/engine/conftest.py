"""What the tests of the rooms below have already."""

from tests.data.download.conftest import _server, kaggle, server  # noqa: F401
from tests.inference.conftest import weights  # noqa: F401
