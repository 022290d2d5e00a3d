"""Which process this is, before torch.distributed is up."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Whether this process writes a run's files: the first of the first node, as Lightning or Slurm starts them."""
    names = ["LOCAL_RANK", "NODE_RANK", "GROUP_RANK"]
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        names.append("SLURM_PROCID")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)
