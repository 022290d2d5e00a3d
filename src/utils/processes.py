"""Which process this is, before torch.distributed is up."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this process writes a run's files: the first of the first node, as Lightning starts them."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
