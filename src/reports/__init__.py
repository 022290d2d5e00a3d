"""Pages, plots and model cards."""
