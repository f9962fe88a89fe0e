"""`actlab train-gpt`: a small GPT on a token dataset, saved as a Hugging Face folder."""
