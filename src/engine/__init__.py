"""What a command does with its configuration; below these doors, functions take values."""
