"""`actlab refine-text`: reject what is broken, score the rest, choose what is well-formed and new."""
