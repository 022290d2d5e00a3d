"""`src.train` with a job that takes no time: what is around the job is the real thing.

The job appends its folder to `<sweep>/../runs.txt`, and obeys a key of the data set that it does not draw:
`data.draw_seed=1` fails, `data.draw_seed=2` kills the process.
"""

import os
import signal
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from src.cli.hydra_plugins import require_plugins
from src.cli.resolvers import register_resolvers
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError

register_resolvers()


def job(cfg: DictConfig) -> float:
    run_dir = Path(cfg.run_dir)
    with (run_dir.parent.parent / "runs.txt").open("a") as file:
        file.write(f"{run_dir.name} {cfg.ckpt_path} {os.environ.get('OMP_NUM_THREADS')}\n")
    if cfg.data.draw_seed == 1:
        raise ConfigError("data.draw_seed=1 fails")
    if cfg.data.draw_seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    value = -abs(cfg.optimizer.lr - 0.003) - cfg.seed / 100
    write_json(run_dir / "metrics.json", {cfg.monitor: value, "test/accuracy": 0.5, "test/accuracy_ci95": [0.4, 0.6]})
    return value


@hydra.main(version_base="1.3", config_path="../../conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    from src.cli.job import run_job

    return run_job(cfg, "tests.helpers.toy_sweep:job")


if __name__ == "__main__":
    require_plugins(sys.argv[1:])
    main()
