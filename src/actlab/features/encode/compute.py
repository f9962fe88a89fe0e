"""From states to the activations of SAE features, kept sparse."""

# l layer, r row (token) of one sentence, t row of a unit, d model width, f feature

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.devices import device_errors
from actlab.backends.saes.find import Encoders
from actlab.backends.saes.sae import NOT_KNOWN, Encoder, SaeFacts, encode
from actlab.features.encode.states.sentence import SentenceStates
from actlab.formats.sentences.write import NewSentence
from actlab.ground.errors import ModelError

_CHUNK = 1024
"""Rows encoded at a time: dense activations of no more are ever held."""
_L0_FACTOR = 3.0
"""Ordinary text moves the mean L0 by less than this; a wrong hook, scale or BOS by far more."""
_ROWS_TO_JUDGE = 16


class Encoded(NamedTuple):
    """Some sentences with their latents."""

    states: Sequence[SentenceStates]
    saes: Sequence[SaeFacts]
    places: list[int]
    """By SAE, its layer's place in the states."""
    latents: list[scipy.sparse.csr_array]
    """By SAE, the activations [t, f] of all rows."""

    @property
    def n_rows(self) -> int:
        """Rows of all sentences."""
        return sum(len(one.token_positions) for one in self.states)

    @property
    def n_active(self) -> list[int]:
        """By SAE, features that fired, summed over rows."""
        return [int(latents.nnz) for latents in self.latents]

    def sentences(self) -> Iterator[NewSentence]:
        """Yield what is written of each sentence."""
        start = 0
        for one in self.states:
            rows = slice(start, start + len(one.token_positions))
            start = rows.stop
            yield NewSentence(
                index=one.index,
                text=one.text,
                label=one.label,
                fragments=one.fragments,
                token_positions=one.token_positions,
                fragment_lengths=one.fragment_lengths,
                is_final=one.is_final,
                embeddings_rd=one.embeddings_rd,
                hidden_crd=one.hidden_lrd[self.places].numpy(),
                layers=[sae.layer for sae in self.saes],
                average_l0s=[sae.average_l0 for sae in self.saes],
                latents=scipy.sparse.vstack([latents[rows] for latents in self.latents], format="csr"),
            )


def encode_sentences(
    states: Sequence[SentenceStates], saes: Sequence[SaeFacts], layers: tuple[int, ...], encoders: Encoders
) -> Encoded:
    """Encode every row of some sentences with every SAE, one SAE after the other."""
    places = [layers.index(sae.layer) for sae in saes]
    latents = []
    for sae, place in zip(saes, places, strict=True):
        x_td = torch.cat([one.hidden_lrd[place] for one in states])
        latents.append(latents_of(encoders.get(sae), x_td))
    return Encoded(states, saes, places, latents)


def latents_of(encoder: Encoder, x_td: Float[Tensor, "t d"]) -> scipy.sparse.csr_array:
    """Return the activations [t, f] that are not 0."""
    chunks = []
    device = encoder.weights["W_enc"].device
    for start in range(0, len(x_td), _CHUNK):
        with device_errors(device, if_out_of_memory="use --device cpu, or SAEs with fewer features"):
            dense_tf = encode(encoder, x_td[start : start + _CHUNK]).cpu().numpy()
        chunks.append(scipy.sparse.csr_array(dense_tf))
    return scipy.sparse.vstack(chunks, format="csr")


class L0Check:
    """Compares how often features fire with what the SAEs declare, once enough rows were seen."""

    def __init__(self, saes: Sequence[SaeFacts]) -> None:
        self._saes = saes
        self._n_rows = 0
        self._n_active = [0] * len(saes)

    def add(self, encoded: Encoded) -> list[ModelError]:
        """Count some more rows; the time that there are enough, return what is far off, and never again."""
        was_enough = self._n_rows >= _ROWS_TO_JUDGE
        self._n_rows += encoded.n_rows
        self._n_active = [n + more for n, more in zip(self._n_active, encoded.n_active, strict=True)]
        if was_enough or self._n_rows < _ROWS_TO_JUDGE:
            return []
        measured = [n / self._n_rows for n in self._n_active]
        return [
            _far_off(sae, l0) for sae, l0 in zip(self._saes, measured, strict=True) if not _is_near(l0, sae.average_l0)
        ]


def _is_near(measured: float, declared: int) -> bool:
    return declared == NOT_KNOWN or declared / _L0_FACTOR <= measured <= declared * _L0_FACTOR


def _far_off(sae: SaeFacts, measured: float) -> ModelError:
    return ModelError(
        f"layer {sae.layer}: {measured:.1f} features fire on a token, but the SAE declares {sae.average_l0}",
        hint="is it this model's SAE, of this layer's output, with its scale, BOS and architecture? "
        "--l0-check warn goes on all the same",
    )
