"""The kinds of datasets that the commands of features write."""

from actlab.ground.kinds import Kind, Show, register
from actlab.ground.later import Later

_FOLDER: Show = Later("actlab.features.inspect:show_folder")

register(
    Kind(
        name="sentence-features",
        show=Later("actlab.features.inspect:show_sentences"),
        read=Later("actlab.features.inspect:read_sentences"),
        finish=Later("actlab.features.encode.sink:finish"),
    ),
    Kind(name="saes", show=_FOLDER, finish=Later("actlab.features.train_sae.sink:finish")),
    Kind(name="feature-ranking", show=_FOLDER),
    Kind(name="probe", show=_FOLDER),
    Kind(
        name="classifier-dataset",
        show=Later("actlab.features.inspect:show_file"),
        read=Later("actlab.features.inspect:read_file"),
    ),
)
