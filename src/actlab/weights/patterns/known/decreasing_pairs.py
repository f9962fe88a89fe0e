from dataclasses import replace

from actlab.weights.patterns.known.sorted_descending import sorted_descending

decreasing_pairs = replace(
    sorted_descending, name="decreasing_pairs", help="Each adjacent pair is in reverse alphabetical order"
)
