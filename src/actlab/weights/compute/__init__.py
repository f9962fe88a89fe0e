"""From drawn networks to judged examples: values in, values out."""
