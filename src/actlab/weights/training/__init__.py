"""Two-stage training of subject networks: many at once, and one at a time as the oracle."""
