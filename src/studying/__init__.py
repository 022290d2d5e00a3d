"""The study of heads: its arms, what they say about the original's claims, and the page about it."""
