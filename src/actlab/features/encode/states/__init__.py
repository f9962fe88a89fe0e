"""Sentences as rows of states: by the model, or out of sentence files."""
