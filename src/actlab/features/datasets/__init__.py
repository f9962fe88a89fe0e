"""`actlab generate-datasets`: classifier datasets from sentence feature files."""
