"""The command line: jobs, sweeps, and what Hydra calls."""
