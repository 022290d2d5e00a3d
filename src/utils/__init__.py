"""What every entry point needs around its job."""
