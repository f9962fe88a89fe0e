"""`actlab rank-features`: which features follow the label."""
