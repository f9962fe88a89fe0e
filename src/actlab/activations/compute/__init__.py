"""Values in, values out: texts to tokens, tokens to batches, batches to saved states."""
