"""How good an interpreter's predictions are, beside what needs no interpreter."""
