"""`actlab tokenize-text`: documents to streams of ids, split before anything is cut into windows."""
