"""What a probe is fitted on: rows, labels, groups, and what is known of how they were made."""
