"""Statistics of sparse features against labels, and the ranking that they make."""
