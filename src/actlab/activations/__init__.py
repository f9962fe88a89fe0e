"""extract-activations: prompts and responses in, residual streams out."""
