"""Where a model looks: maps of evidence, and how good they are."""
