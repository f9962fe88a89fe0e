"""From a prompt to text, refined and tokenised, and a small GPT trained on it."""
