"""Where a model looks: maps of attribution, and how good they are."""
