"""The student project's experiment once more, with and without its defects."""
