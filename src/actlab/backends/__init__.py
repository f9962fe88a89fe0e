"""Where models come from and how they are run: torch, transformers, the hub."""
