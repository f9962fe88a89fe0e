"""The kind of dataset that extract-activations writes."""

from actlab.ground.kinds import Kind, register
from actlab.ground.later import Later

register(
    Kind(
        name="activations",
        show=Later("actlab.activations.show:show_activations"),
        read=Later("actlab.activations.verify.checks:read_splits"),
        check=Later("actlab.activations.verify.checks:check_activations"),
        recompute=Later("actlab.activations.verify.recompute:recompute_rows"),
        finish=Later("actlab.activations.sink:finish"),
    )
)
