"""SAE features of sentences: compute them, rank them, make classifier datasets, train probes."""
