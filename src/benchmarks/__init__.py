"""Benchmarks: ours against plainly written baselines, side by side in one process."""
