"""From rows and labels to a probe, its scores, its baselines and its weights: values in, values out."""
