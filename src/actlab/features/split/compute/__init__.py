"""Which sentences belong together, and how groups of them are divided."""
