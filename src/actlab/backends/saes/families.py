"""Families of SAE folders: who wrote them, and so how they are read. Adding one is adding a `Family` to the table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from actlab.backends.saes import gemma_scope, saelens
from actlab.backends.saes.sae import SaeFacts
from actlab.ground.variants import Table, Variant


@dataclass(frozen=True, kw_only=True)
class Family(Variant):
    """A way to lay an SAE out in a folder."""

    recognises: Callable[[Path], bool]
    """Whether an SAE of this family lies in a folder itself. Two families may both have a `cfg.json`: it may have to
    look inside. A file that is damaged is for `read` to refuse."""
    read: Callable[[Path], SaeFacts]
    """What such a folder says of its SAE, and in `SaeFacts.family` this family's name; its weights are not loaded."""
    weights: Callable[[SaeFacts], Callable[[str], Tensor]]
    """What reads one of an SAE's weights by the name that `Encoder` has for it, and "W_dec" [f, d]."""


FAMILIES = Table(
    "SAE family",
    Family(
        name="gemma-scope",
        help="`layer_L/width_16k/average_l0_X/params.npz`",
        hint=gemma_scope.HINT,
        recognises=lambda folder: (folder / gemma_scope.FILE).is_file(),
        read=lambda folder: gemma_scope.read(folder / gemma_scope.FILE),
        weights=gemma_scope.weights,
    ),
    Family(
        name="saelens",
        help="`cfg.json` and `sae_weights.safetensors`, as SAELens 6 and before write them, and `actlab train-sae`",
        hint=f"{saelens.HINT}; what SAELens loads from elsewhere (Gemma Scope 2 and others), its save_model writes so",
        recognises=saelens.recognises,
        read=lambda folder: saelens.read(folder / saelens.FILE),
        weights=saelens.weights,
    ),
)
