"""Synthetic faces."""
