"""Research made with the framework; nothing in it is imported by `src`."""
