"""Heads: what reads the features of a backbone tap."""
