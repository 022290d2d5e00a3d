"""One data module a data set."""
