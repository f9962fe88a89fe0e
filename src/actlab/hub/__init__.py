"""The hub: a sealed dataset sent there, its card, and what the repository holds."""
