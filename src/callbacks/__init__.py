"""What watches a run and writes its files."""
