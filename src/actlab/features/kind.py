"""The kinds of datasets that the commands of features write."""

from actlab.ground.kinds import Kind, register

_SHOWS = "actlab.features.inspect:show_features"
_CHECKS = "actlab.features.inspect:check_features"

register(
    Kind(name="sentence-features", shows=_SHOWS, checks=_CHECKS, finishes="actlab.features.encode.sink:finish"),
    Kind(name="saes", shows=_SHOWS, checks=_CHECKS, finishes="actlab.features.train_sae.sink:finish"),
    Kind(name="feature-ranking", shows=_SHOWS, checks=_CHECKS),
    Kind(name="probe", shows=_SHOWS, checks=_CHECKS),
    Kind(name="classifier-dataset", shows=_SHOWS, checks=_CHECKS),
)
