"""`actlab sweep-datasets`: many classifier datasets from one pass over each folder's files."""
