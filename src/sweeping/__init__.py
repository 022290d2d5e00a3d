"""Sweeps: their jobs, their summary, and searches that go on."""
