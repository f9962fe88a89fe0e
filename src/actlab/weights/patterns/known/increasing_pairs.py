from dataclasses import replace

from actlab.weights.patterns.known.sorted_ascending import sorted_ascending

increasing_pairs = replace(
    sorted_ascending, name="increasing_pairs", help="Each adjacent pair is in alphabetical order"
)
