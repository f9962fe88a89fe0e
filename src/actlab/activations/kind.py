"""The kind of dataset that extract-activations writes."""

from actlab.ground.kinds import Kind, register

register(
    Kind(
        name="activations",
        shows="actlab.activations.show:show_activations",
        checks="actlab.activations.verify.checks:check_activations",
        finishes="actlab.activations.sink:finish",
        recomputes="actlab.activations.verify.recompute:recompute_rows",
    )
)
