"""The kinds of datasets that the commands of text write."""

from actlab.ground.kinds import Kind, Show, register
from actlab.ground.later import Later

_SHOW: Show = Later("actlab.text.inspect:show_text")

register(
    Kind(name="text", show=_SHOW, check=Later("actlab.text.inspect:check_documents")),
    Kind(name="tokens", show=_SHOW, check=Later("actlab.text.inspect:check_tokens")),
    Kind(
        name="gpt",
        show=_SHOW,
        check=Later("actlab.text.inspect:check_gpt"),
        finish=Later("actlab.text.train_gpt.sink:finish"),
    ),
)
