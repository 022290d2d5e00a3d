"""Folders of the project, and names of files."""

from __future__ import annotations

import re
from pathlib import Path

# Holds src/, conf/ and pretrained/.
ROOT = Path(__file__).parents[2]
# Holds data/ and outputs/. Beside an installed package lie those of others: there, it is the working directory.
WORKSPACE = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()
MAX_NAME = 100
# Names that Windows keeps for devices, whatever comes after a dot.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def plain_name(text: str) -> str:
    """Return text in A-Z, a-z, 0-9, '.', '_' and '-', at most 100 characters, so that it needs no quotes.

    It is a file name on Windows, too, which drops a '.' at the end, and whose devices have names such as `nul`.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-")[:MAX_NAME].rstrip("-.")
    return f"_{name}" if DEVICES.fullmatch(name) else name
