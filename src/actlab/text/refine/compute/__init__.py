"""Documents in, documents with verdicts out: no file, no model, no server."""
