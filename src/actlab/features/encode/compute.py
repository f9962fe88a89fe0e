"""From states to the activations of SAE features, kept sparse."""

# l layer, r row (token) of one sentence, t row of a unit, d model width, f feature

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from actlab.backends.devices import device_errors
from actlab.backends.saes.find import Encoders, weights_of
from actlab.backends.saes.sae import NOT_KNOWN, Encoder, SaeFacts, encode, explained_variance
from actlab.formats.sentences.write import NewSentence, SentenceRows
from actlab.ground.errors import ModelError
from actlab.ground.log import log

_CHUNK = 1024
"""Rows encoded at a time: dense activations of no more are ever held."""
_L0_FACTOR = 3.0
"""Ordinary text moves the mean L0 by less than this; a wrong hook, scale or BOS by far more."""
_ROWS_TO_JUDGE = 16
_ROWS_BACK = 32
"""Fewer rows are no measure of their own variance."""
_MOST_ROWS_BACK = 256
"""Rows that the decoders are tried on: some dozen sentences tell a wrong SAE, and no more are kept."""


class Rows(NamedTuple):
    """What an SAE read, and what came of it."""

    x_td: Float[np.ndarray, "t d"]
    latents: scipy.sparse.csr_array
    """The activations [t, f]."""


class Encoded(NamedTuple):
    """Some sentences with their latents."""

    sentences: Sequence[SentenceRows]
    saes: Sequence[SaeFacts]
    rows: list[Rows]
    """By SAE, those of all sentences."""

    @property
    def counts(self) -> Int[np.ndarray, " 2+s"]:
        """Sentences, their rows and, by SAE, the features that fired, summed over rows."""
        n_active = [of_sae.latents.nnz for of_sae in self.rows]
        return np.array([len(self.sentences), len(self.rows[0].x_td), *n_active])

    def with_latents(self) -> Iterator[NewSentence]:
        """Yield what is written of each sentence."""
        stops = np.cumsum([len(one.token_positions) for one in self.sentences]).tolist()
        for one, start, stop in zip(self.sentences, [0, *stops], stops, strict=False):
            rows = slice(start, stop)
            of_saes = {
                "hidden_crd": np.stack([of_sae.x_td[rows] for of_sae in self.rows]),
                "layers": [sae.layer for sae in self.saes],
                "average_l0s": [sae.average_l0 for sae in self.saes],
                "latents": scipy.sparse.vstack([of_sae.latents[rows] for of_sae in self.rows], format="csr"),
            }
            yield NewSentence(**vars(one) | of_saes)


def encode_sentences(
    sentences: Sequence[SentenceRows], saes: Sequence[SaeFacts], layers: tuple[int, ...], encoders: Encoders
) -> Encoded:
    """Encode every row of some sentences with every SAE, one SAE after the other."""
    of_layer = {
        layer: np.concatenate([one.hidden_crd[place] for one in sentences]) for place, layer in enumerate(layers)
    }
    inputs = [of_layer[sae.layer] for sae in saes]
    latents = [latents_of(encoders.get(sae), torch.from_numpy(x)) for sae, x in zip(saes, inputs, strict=True)]
    return Encoded(sentences, saes, list(map(Rows, inputs, latents)))


def latents_of(encoder: Encoder, x_td: Float[Tensor, "t d"]) -> scipy.sparse.csr_array:
    """Return the activations [t, f] that are not 0."""
    chunks = []
    for start in range(0, len(x_td), _CHUNK):
        with device_errors(
            encoder.weights["W_enc"].device, if_out_of_memory="use --device cpu, or SAEs with fewer features"
        ):
            dense_tf = encode(encoder, x_td[start : start + _CHUNK]).cpu().numpy()
        chunks.append(scipy.sparse.csr_array(dense_tf))
    return scipy.sparse.vstack(chunks, format="csr")


class SaeCheck:
    """Tells from a run's first rows whether its SAEs are read as they were trained: how often features fire against
    what the SAEs declare, and how well they give their inputs back.
    """

    def __init__(self, saes: Sequence[SaeFacts]) -> None:
        self._saes = saes
        self._counts = np.zeros(2 + len(saes), int)
        self._first: list[list[Rows]] = []
        """By group of sentences and SAE, the first `_MOST_ROWS_BACK` rows in all."""
        self.explained: list[float | None] | None = None
        """By SAE, the explained variance, once enough rows were seen."""

    def add(self, encoded: Encoded) -> list[ModelError]:
        """Count some more rows; the time that there are enough, return what is far off, and never again."""
        before = int(self._counts[1])
        self._counts = self._counts + encoded.counts
        problems = list(self._far_off()) if before < _ROWS_TO_JUDGE <= self._counts[1] else []
        if self.explained is None:
            n = _MOST_ROWS_BACK - before
            self._first.append([Rows(x_td[:n].copy(), latents[:n]) for x_td, latents in encoded.rows])
            problems += self._reconstruct() if self._counts[1] >= _MOST_ROWS_BACK else []
        return problems

    def end_unit(self) -> list[ModelError]:
        """Take the rows seen until here for enough, if they are, and return what is far off."""
        return list(self._reconstruct()) if self.explained is None and self._counts[1] >= _ROWS_BACK else []

    def _far_off(self) -> Iterator[ModelError]:
        """Yield the SAEs whose features fire far more or less often than they declare."""
        _, n_rows, *n_active = self._counts.tolist()
        for sae, n in zip(self._saes, n_active, strict=True):
            l0, declared = n / n_rows, sae.average_l0
            if declared != NOT_KNOWN and not declared / _L0_FACTOR <= l0 <= declared * _L0_FACTOR:
                yield ModelError(
                    f"layer {sae.layer}: {l0:.1f} features fire on a token, but the SAE declares {declared}",
                    hint="is it this model's SAE, of this layer's output, with its scale, BOS and architecture? "
                    "--l0-check warn goes on all the same",
                )

    def _reconstruct(self) -> Iterator[ModelError]:
        """Measure the explained variance on the first rows, say it, and yield the SAEs that have none."""
        self.explained = []
        for sae, groups in zip(self._saes, zip(*self._first, strict=True), strict=True):
            x_td = np.concatenate([rows.x_td for rows in groups])
            latents = scipy.sparse.vstack([rows.latents for rows in groups], format="csr")
            explained = explained_variance(sae, weights_of(sae), x_td, latents)
            self.explained.append(explained)
            _say(sae, explained, len(x_td))
            if explained is not None and explained <= 0:
                yield ModelError(
                    f"layer {sae.layer}: the SAE does not give its input back, its explained variance is "
                    f"{explained:.2f}",
                    hint="is it this model's SAE, of this layer, of the block's output (no transcoder, MLP or "
                    "attention SAE), with its scale and BOS? --l0-check warn goes on all the same",
                )
        self._first.clear()


def _say(sae: SaeFacts, explained: float | None, n_rows: int) -> None:
    name = f"layer {sae.layer}" + (f", average_l0 {sae.average_l0}" if sae.average_l0 != NOT_KNOWN else "")
    shown = "unknown, all rows are equal" if explained is None else f"{explained:.3f}"
    once = sae.declared.get("explained_variance")
    in_training = f", and {once:.3f} in training" if isinstance(once, int | float) else ""
    log.info("%s: explained variance %s on %d rows%s", name, shown, n_rows, in_training)
