"""Data sets: packed stores, transforms, loaders."""
