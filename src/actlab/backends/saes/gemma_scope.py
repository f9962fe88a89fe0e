"""Gemma Scope: `layer_12/width_16k/average_l0_82/params.npz`, JumpReLU without b_dec on the input."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from actlab.backends.saes.places import other_place
from actlab.backends.saes.sae import SaeFacts
from actlab.ground.errors import ModelError, foreign_errors
from actlab.ground.integrity import check_sealed
from actlab.ground.limits import refuse_false_size

FILE = "params.npz"
_KEYS = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
_PLACE = re.compile(r"/layer_(?P<layer>\d{1,4})/width_[^/]+/average_l0_(?P<l0>\d{1,6})/params\.npz$")
HINT = "a Gemma Scope folder is layer_L/width_16k/average_l0_X/params.npz"
_RESIDUAL = {"res", "resid", "residual"}
_ELSEWHERE = {
    "mlp": "the MLP's output",
    "mlps": "the MLP's output",
    **dict.fromkeys(("att", "attn", "attention"), "the attention's output"),
    **dict.fromkeys(("transcoder", "transcoders", "clt", "clts"), "the MLP's input, as transcoders do"),
    "embedding": "the embedding",
}
"""What the words in a folder's name say that its SAEs read, besides the residual stream."""

_ON_NEURONPEDIA = dict(
    enumerate(
        [105, 102, 141, 59, 124, 68, 70, 69, 71, 73, 77, 80, 82, 84, 84, 78, 78, 77, 74, 73, 71, 70, 72, 75, 73, 116]
    )
)
"""By layer, average L0 of the one 16k SAE of gemma-scope-2b-pt-res that Neuronpedia hosts, its "canonical" one."""


def read(path: Path) -> SaeFacts:
    """Return what a `params.npz` and the folders above it say.

    Raises:
        ModelError: It is damaged, or the folders do not name layer and L0, or they name another place than the
            residual stream.
    """
    place = path.absolute().as_posix()
    for folder in (path.absolute().parent, path.parent.resolve()):  # a link's name may hide what it leads to
        if elsewhere := _elsewhere(folder):
            raise other_place(path, elsewhere)
    names = _PLACE.search(place)
    if names is None:
        raise ModelError(f"{path} does not say its layer and average L0", hint=HINT)
    layer, l0 = int(names["layer"]), int(names["l0"])
    with foreign_errors(f"cannot read {path}", hint=HINT), np.load(path, allow_pickle=False) as file:
        for info in file.zip.infolist():
            refuse_false_size(info)
        if lacking := sorted(_KEYS - set(file.files)):
            raise ModelError(f"{path} has no {lacking[0]}", hint=HINT)
        d_in, n_features = len(file["b_dec"]), len(file["b_enc"])
    is_hosted = "gemma-scope-2b-pt-res/" in place and "/width_16k/" in place and _ON_NEURONPEDIA.get(layer) == l0
    return SaeFacts(
        path=path,
        family="gemma-scope",
        architecture="jumprelu",
        layer=layer,
        d_in=d_in,
        n_features=n_features,
        average_l0=l0,
        neuronpedia_id=f"gemma-2-2b/{layer}-gemmascope-res-16k" if is_hosted else None,
    )


def _elsewhere(folder: Path) -> str | None:
    """Return the place that the nearest telling name above some weights tells, None for the residual stream.

    The three folders of an SAE and the one that holds them count, and above these a repository of Gemma Scope.
    """
    for height, name in enumerate((folder.name, *(parent.name for parent in folder.parents))):
        words = set(re.split(r"[^a-z]+", name.lower()))
        if height > 3 and not {"gemma", "scope"} <= words:
            continue
        if words & _RESIDUAL:
            return None
        if told := sorted(words & _ELSEWHERE.keys()):
            return _ELSEWHERE[told[0]]
    return None


def weights(facts: SaeFacts) -> Callable[[str], Tensor]:
    """Return what reads one weight; the decoder's half of the file stays unread, unless a manifest names it.

    Raises:
        StorageError: The file is not as it was sealed.
    """
    check_sealed(facts.path)

    def read_one(name: str) -> Tensor:
        with foreign_errors(f"cannot read {facts.path}", hint=HINT), np.load(facts.path, allow_pickle=False) as file:
            return torch.from_numpy(file[name])

    return read_one
