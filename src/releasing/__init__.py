"""Weights to pass on, and the card that says what they are."""
