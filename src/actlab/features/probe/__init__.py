"""Linear probes on classifier datasets and on activation dumps, tested on rows that nothing was chosen on."""
