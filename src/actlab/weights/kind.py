"""The kind of dataset that run-data-gen writes."""

from actlab.ground.kinds import Kind, register

register(
    Kind(
        name="weights",
        shows="actlab.weights.inspect:show_weights",
        checks="actlab.weights.inspect:check_weights",
        finishes="actlab.weights.sink:finish",
    )
)
