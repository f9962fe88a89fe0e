"""`actlab split`: which sentences to train on, and which to keep for the test."""
