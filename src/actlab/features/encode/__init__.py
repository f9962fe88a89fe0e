"""`actlab compute-features`: sentences through a model and its SAEs, into sentence feature files."""
