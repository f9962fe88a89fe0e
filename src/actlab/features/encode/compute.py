"""From states to the activations of SAE features, kept sparse."""

# l layer, r row (token) of one sentence, t row of a unit, d model width, f feature

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from actlab.backends.devices import device_errors
from actlab.backends.saes.find import Encoders, weights_of
from actlab.backends.saes.reconstruct import explained_variance
from actlab.backends.saes.sae import NOT_KNOWN, Encoder, SaeFacts, encode
from actlab.features.encode.states.sentence import SentenceStates
from actlab.formats.sentences.write import NewSentence
from actlab.ground.errors import ModelError

log = logging.getLogger("actlab")

_CHUNK = 1024
"""Rows encoded at a time: dense activations of no more are ever held."""
_L0_FACTOR = 3.0
"""Ordinary text moves the mean L0 by less than this; a wrong hook, scale or BOS by far more."""
_ROWS_TO_JUDGE = 16
_ROWS_BACK = 32
"""Fewer rows are no measure of their own variance."""
_MOST_ROWS_BACK = 256
"""Rows that the decoders are tried on: some dozen sentences tell a wrong SAE, and no more are kept."""


class FirstRows(NamedTuple):
    """Some rows of a run, for the check."""

    hidden_lrd: Float[Tensor, "l t d"]
    places: list[int]
    """By SAE, its layer's place in the states."""
    latents: list[scipy.sparse.csr_array]
    """By SAE, the activations [t, f]."""


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

    def first_rows(self, most: int) -> "FirstRows":
        """Return a copy of at most so many rows."""
        taken: list[Tensor] = []
        n_left = most
        for one in self.states:
            if n_left > 0:
                taken.append(one.hidden_lrd[:, :n_left])
                n_left -= taken[-1].shape[1]
        hidden_lrd = torch.cat(taken, dim=1)
        return FirstRows(hidden_lrd, self.places, [latents[: hidden_lrd.shape[1]] for latents in self.latents])

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


class SaeCheck:
    """Tells from a run's first rows whether its SAEs are read as they were trained: how often features fire against
    what the SAEs declare, and how well they give their inputs back.
    """

    def __init__(self, saes: Sequence[SaeFacts]) -> None:
        self._saes = saes
        self._n_rows = 0
        self._n_active = [0] * len(saes)
        self._first: list[FirstRows] = []
        self.explained: list[float | None] | None = None
        """By SAE, the explained variance, once enough rows were seen."""

    def add(self, encoded: Encoded) -> list[ModelError]:
        """Count some more rows; the time that there are enough, return what is far off, and never again."""
        was_enough = self._n_rows >= _ROWS_TO_JUDGE
        self._n_rows += encoded.n_rows
        self._n_active = [n + more for n, more in zip(self._n_active, encoded.n_active, strict=True)]
        problems = []
        if not was_enough and self._n_rows >= _ROWS_TO_JUDGE:
            measured = [n / self._n_rows for n in self._n_active]
            problems = [
                _far_off(sae, l0)
                for sae, l0 in zip(self._saes, measured, strict=True)
                if not _is_near(l0, sae.average_l0)
            ]
        if self.explained is None:
            self._first.append(encoded.first_rows(_MOST_ROWS_BACK - self._n_first))
            problems += self._reconstruct() if self._n_first >= _MOST_ROWS_BACK else []
        return problems

    def end_unit(self) -> list[ModelError]:
        """Take the rows seen until here for enough, if they are, and return what is far off."""
        return self._reconstruct() if self.explained is None and self._n_first >= _ROWS_BACK else []

    @property
    def _n_first(self) -> int:
        return sum(rows.hidden_lrd.shape[1] for rows in self._first)

    def _reconstruct(self) -> list[ModelError]:
        """Measure the explained variance on the first rows, say it, and return the SAEs that have none."""
        hidden_lrd = torch.cat([rows.hidden_lrd for rows in self._first], dim=1).numpy()
        self.explained, problems = [], []
        for number, sae in enumerate(self._saes):
            latents = scipy.sparse.vstack([rows.latents[number] for rows in self._first], format="csr")
            x_td = hidden_lrd[self._first[0].places[number]]
            explained = explained_variance(sae, weights_of(sae), x_td, latents)
            self.explained.append(explained)
            _say(sae, explained, len(x_td))
            if explained is not None and explained <= 0:
                problems.append(_no_reconstruction(sae, explained))
        self._first.clear()
        return problems


def _say(sae: SaeFacts, explained: float | None, n_rows: int) -> None:
    name = f"layer {sae.layer}" + (f", average_l0 {sae.average_l0}" if sae.average_l0 != NOT_KNOWN else "")
    shown = "unknown, all rows are equal" if explained is None else f"{explained:.3f}"
    once = sae.declared.get("explained_variance")
    in_training = f", and {once:.3f} in training" if isinstance(once, int | float) else ""
    log.info("%s: explained variance %s on %d rows%s", name, shown, n_rows, in_training)


def _is_near(measured: float, declared: int) -> bool:
    return declared == NOT_KNOWN or declared / _L0_FACTOR <= measured <= declared * _L0_FACTOR


def _no_reconstruction(sae: SaeFacts, explained: float) -> ModelError:
    return ModelError(
        f"layer {sae.layer}: the SAE does not give its input back, its explained variance is {explained:.2f}",
        hint="is it this model's SAE, of this layer, of the block's output (no transcoder, MLP or attention SAE), with "
        "its scale and BOS? --l0-check warn goes on all the same",
    )


def _far_off(sae: SaeFacts, measured: float) -> ModelError:
    return ModelError(
        f"layer {sae.layer}: {measured:.1f} features fire on a token, but the SAE declares {sae.average_l0}",
        hint="is it this model's SAE, of this layer's output, with its scale, BOS and architecture? "
        "--l0-check warn goes on all the same",
    )
