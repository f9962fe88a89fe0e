"""From states to the activations of SAE features, kept sparse."""

# l layer, r row (token) of one sentence, t row of a unit, d model width, f feature

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.saes.find import Encoders
from actlab.backends.saes.sae import NOT_KNOWN, Encoder, SaeFacts, encode
from actlab.features.encode.states.sentence import SentenceStates
from actlab.formats.sentences import NewSentence
from actlab.ground.errors import ModelError

_CHUNK = 1024
"""Rows encoded at a time: dense activations of no more are ever held."""
_L0_FACTOR = 3.0
"""Ordinary text moves the mean L0 by less than this; a wrong hook, scale or BOS by far more."""
_ROWS_TO_JUDGE = 16


class EncodedUnit(NamedTuple):
    """What a unit's sentences came to."""

    sentences: list[NewSentence]
    n_rows: int
    n_active: list[int]
    """By SAE, features that fired, summed over rows."""


def encode_unit(
    states: Sequence[SentenceStates], saes: Sequence[SaeFacts], layers: tuple[int, ...], encoders: Encoders
) -> EncodedUnit:
    """Encode every row of a unit with every SAE, one SAE after the other."""
    bounds = np.cumsum([0, *(len(one.token_positions) for one in states)])
    by_sae = []
    for sae in saes:
        place = layers.index(sae.layer)
        x_td = torch.cat([one.hidden_lrd[place] for one in states])
        by_sae.append(latents_of(encoders.get(sae), x_td))
    places = [layers.index(sae.layer) for sae in saes]
    made = []
    for number, one in enumerate(states):
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        made.append(
            NewSentence(
                index=one.index,
                text=one.text,
                label=one.label,
                fragments=one.fragments,
                token_positions=one.token_positions,
                fragment_lengths=one.fragment_lengths,
                is_final=one.is_final,
                embeddings_rd=one.embeddings_rd,
                hidden_crd=one.hidden_lrd[places].numpy(),
                layers=[sae.layer for sae in saes],
                average_l0s=[sae.average_l0 for sae in saes],
                latents=scipy.sparse.vstack([latents[rows] for latents in by_sae], format="csr"),
            )
        )
    return EncodedUnit(made, int(bounds[-1]), [int(latents.nnz) for latents in by_sae])


def latents_of(encoder: Encoder, x_td: Float[Tensor, "t d"]) -> scipy.sparse.csr_array:
    """Return the activations [t, f] that are not 0."""
    chunks = []
    for start in range(0, len(x_td), _CHUNK):
        dense_tf = encode(encoder, x_td[start : start + _CHUNK]).cpu().numpy()
        chunks.append(scipy.sparse.csr_array(dense_tf))
    return scipy.sparse.vstack(chunks, format="csr")


def l0_problem(sae: SaeFacts, n_active: int, n_rows: int) -> ModelError | None:
    """Return an error where features fire far more or less often than the SAE declares."""
    if sae.average_l0 == NOT_KNOWN or n_rows < _ROWS_TO_JUDGE:
        return None
    measured = n_active / n_rows
    if sae.average_l0 / _L0_FACTOR <= measured <= sae.average_l0 * _L0_FACTOR:
        return None
    return ModelError(
        f"layer {sae.layer}: {measured:.1f} features fire on a token, but the SAE declares {sae.average_l0}",
        hint="is it this model's SAE, of this layer's output, with its scale, BOS and architecture? "
        "--l0-check warn goes on all the same",
    )
