"""The kind of dataset that run-data-gen writes."""

from actlab.ground.kinds import Kind, register
from actlab.ground.later import Later

register(
    Kind(
        name="weights",
        asks_plugins=True,
        show=Later("actlab.weights.inspect:show_weights"),
        check=Later("actlab.weights.inspect:check_weights"),
        instead="train networks again by: actlab reproduce DIR --example-id N",
        finish=Later("actlab.weights.sink:finish"),
    )
)
