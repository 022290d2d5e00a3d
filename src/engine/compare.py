"""One comparison, from run directories to `comparison.html`."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.comparison.entries import group_runs
from src.comparison.leaderboard import Comparison, compare_entries, terminal_tables
from src.comparison.page import comparison_page
from src.runs import layout
from src.runs.finished import check_same_test_set, find_runs
from src.utils.atomic_files import write_text
from src.utils.errors import ConfigError

log = logging.getLogger(__name__)


def compare_runs(cfg: DictConfig) -> Comparison:
    """Compare runs tested on the same images.

    Args:
        cfg: Configuration of `conf/compare.yaml`.

    Returns:
        What was written.

    Raises:
        ConfigError: If there are no runs, or their test sets differ.
    """
    plain = OmegaConf.to_container(cfg, resolve=True)
    runs = find_runs(plain["runs"])  # type: ignore[index,call-overload]  # a mapping
    if cfg.dedup:
        runs = [run.without_duplicates() for run in runs]
    check_same_test_set(runs)
    if runs[0].predictions.empty:
        raise ConfigError(f"dedup={cfg.dedup}: no image is left; expected dedup=false for these runs.")
    if "clip" in runs[0].predictions:
        log.warning(
            "The images are frames of clips, which this takes for independent: its intervals are too narrow and its "
            "p-values too small. Intervals over clips are in each run's metrics.json."
        )
    comparison = compare_entries(group_runs(runs, None if cfg.by is None else list(cfg.by)), cfg.metric)
    run_dir = Path(cfg.run_dir)
    write_text(run_dir / layout.LEADERBOARD, comparison.board.to_csv(index=False, lineterminator="\n"))
    write_text(run_dir / layout.ENTRY_PAIRS, comparison.entry_pairs.to_csv(index=False, lineterminator="\n"))
    write_text(run_dir / layout.RUN_PAIRS, comparison.run_pairs.to_csv(index=False, lineterminator="\n"))
    split = runs[0].split
    shown = f"{split} images without a duplicate elsewhere" if cfg.dedup else f"all {split} images"
    title = f"{len(runs)} runs on {runs[0].data_name}, {shown}"
    write_text(run_dir / layout.COMPARISON, comparison_page(comparison, title))
    console = Console(stderr=True, markup=False)
    for table in terminal_tables(comparison):
        console.print(table)
    console.print(f"Page: {run_dir / layout.COMPARISON}", soft_wrap=True, highlight=False)
    return comparison
