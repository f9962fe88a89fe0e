"""Which files a unit of sentences becomes, and what a finished folder adds to them."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NotRequired, TypedDict

import numpy as np

from actlab.features.encode.compute import Encoded
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.source import NOT_FINITE, Dropped
from actlab.features.encode.states.model import NO_TOKEN, TOO_LONG
from actlab.formats.sentences.file import KIND, sentence_name
from actlab.formats.sentences.folder import INPUTS_CHECKED
from actlab.formats.sentences.write import write_sentence
from actlab.ground.made_on import made_on
from actlab.ground.manifest import METADATA, Environment
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Staging, write_dropped

_HINTS = {
    TOO_LONG: "give a larger --max-length; the model's own limit holds too",
    NO_TOKEN: "is it the right column? --text-column names another",
    NOT_FINITE: "run the model with --model-dtype float32",
}
"""What helps where nothing is left, by the most frequent reason."""


class UnitRecord(TypedDict):
    """What a unit's completion record says besides its files and what was dropped."""

    dropped: dict[str, int]
    environment: Environment
    n_sentences: int
    n_rows: int
    n_active: list[int]
    """By SAE, features that fired, summed over rows."""
    explained_variances: NotRequired[list[float | None] | None]
    """By SAE, in the first unit."""
    inputs_checked: NotRequired[bool]
    """Whether the sentence files that were read had been compared with their manifest."""


class UnitSink:
    """Turns a unit's sentences into files, and counts what its record says besides."""

    def __init__(self, config: EncodeConfig, n_saes: int, environment: Callable[[], Environment]) -> None:
        self._config = config
        self._environment = environment
        self.dropped: list[Dropped] = []
        """Sentences that are not written."""
        self._counts = np.zeros(2 + n_saes, int)
        self.explained_variances: list[float | None] | None = None
        """By SAE, in the first unit."""

    def files(self, encoded: Encoded) -> Iterator[NewFile]:
        """Yield the files of some sentences."""
        self._counts += encoded.counts
        write = partial(write_sentence, sparse=self._config.storage == "sparse", dtype=self._config.dtype)
        for new in encoded.with_latents():
            yield NewFile(sentence_name(new.index), partial(write, new=new), len(new.token_positions))

    def record(self) -> dict[str, object]:
        """Return what the unit's completion record says besides its files."""
        n_sentences, n_rows, *n_active = self._counts.tolist()
        return {
            "dropped": dict(Counter(one.reason for one in self.dropped)),
            "dropped_records": [one._asdict() for one in self.dropped],
            "environment": self._environment(),
            "n_sentences": n_sentences,
            "n_rows": n_rows,
            "n_active": n_active,
            "explained_variances": self.explained_variances,
            **({} if self._config.from_hidden is None else {INPUTS_CHECKED: self._config.check}),
        }


def finish(staging: Staging) -> Finish:
    """Return the folder's metadata, and write the list of what was dropped."""
    identity, records = staging.plan.identity, list(staging.records_as(UnitRecord))
    saes = identity["saes"]
    counts = [(one["n_sentences"], one["n_rows"], *one["n_active"]) for one in records]
    n_sentences, n_rows, *n_active = map(sum, zip(*counts, strict=True))
    measured = (one.get("explained_variances") for one in records)
    explained = next(filter(None, measured), [None] * len(saes))
    dropped = sum((Counter(one["dropped"]) for one in records), Counter[str]())
    metadata = {
        "model_name": identity["model_name"],
        "n_sentences": n_sentences,
        "n_rows": n_rows,
        "layers": [sae["layer"] for sae in saes],
        "average_l0s": [sae["average_l0"] for sae in saes],
        "measured_l0s": [round(total / n_rows, 3) if n_rows else None for total in n_active],
        "explained_variances": [round(one, 3) if one is not None and math.isfinite(one) else None for one in explained],
        "num_features": identity["num_features"],
        "hidden_dim": identity["hidden_dim"],
        "storage": identity["storage"],
        "dtype": identity["dtype"],
        "final_only": identity["final_only"],
        **({INPUTS_CHECKED: all(one.get("inputs_checked") for one in records)} if "from_hidden" in identity else {}),
        "hook": identity["hook"],
        "dropped": dict(sorted(dropped.items())),
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }
    made = made_on(one["environment"] for one in records if one["n_sentences"])
    return Finish(write_dropped(staging), {METADATA: metadata}, {"made_on": made}, _HINTS)
