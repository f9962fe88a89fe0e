"""One file a pattern, found by its name."""
