"""Two-stage training of subject networks: many at once."""
