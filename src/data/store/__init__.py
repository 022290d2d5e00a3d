"""Packed, memory-mapped images and features."""
