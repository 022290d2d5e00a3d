"""The local web demo."""
