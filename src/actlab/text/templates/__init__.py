"""Documents from grammars: reading, planning by exact counts, generation."""
