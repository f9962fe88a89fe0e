"""The kinds of datasets that the commands of text write."""

from actlab.ground.kinds import Kind, register

_SHOWS = "actlab.text.inspect:show_text"
_CHECKS = "actlab.text.inspect:check_text"

register(
    Kind(name="text", shows=_SHOWS, checks=_CHECKS),
    Kind(name="tokens", shows=_SHOWS, checks=_CHECKS),
    Kind(name="gpt", shows=_SHOWS, checks=_CHECKS, finishes="actlab.text.train_gpt.sink:finish"),
)
