"""A model's states for examples: the model is loaded, and tested, when the first of them are wanted."""

# n example, l layer, d model width

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from actlab.activations.config import ExtractConfig
from actlab.activations.source import Dropped
from actlab.activations.tokenise import NOT_FINITE, Example, Tokens, asks_the_clock
from actlab.backends.hub import ModelFolder, weights_bytes
from actlab.backends.models import Backbone, Loading, OpenModel, load_backbone
from actlab.backends.proof import BLOCKS_IN_FLOAT32
from actlab.backends.reader import Reader, read_states
from actlab.backends.selftest import load_reader
from actlab.formats.activations import DTYPES
from actlab.ground.errors import ConfigError, ModelError
from actlab.ground.layers import parse_layers


class UnitStates(NamedTuple):
    """What one unit came to."""

    examples: list[Example]
    """In the order of source line, then split."""
    states_nld: Float[Tensor, "n l d"]
    """In the dtype to be saved."""
    dropped: list[Dropped]


class Model(OpenModel):
    """One model under one set of settings, for all datasets; its weights are loaded with the first unit."""

    def __init__(self, folder: ModelFolder, config: ExtractConfig) -> None:
        super().__init__(folder, device=config.device, max_length=config.max_length)
        self.config = config
        self.layers = parse_layers(config.layers, self.facts.n_layers)
        self.writes_date: bool = config.chat_template and asks_the_clock(self.tokenizer)
        """Whether its chat template writes the date."""
        if config.template_date is not None and not self.writes_date:
            raise ConfigError(f"the chat template of {folder.name} writes no date", hint="omit --template-date")
        self._was_asked = False

    def tokens(self, today: str | None) -> Tokens:
        """Return what makes examples of rows, on a day for the chat template."""
        return Tokens(self.tokenizer, self.config, self.max_tokens, today)

    @property
    def saved_dtype(self) -> torch.dtype:
        """The dtype to save, as far as the settings and the model's config tell."""
        names = (self.config.dtype, self.config.model_dtype, str(self.facts.config.dtype or "float32"))
        name = next(name for name in names if name not in ("model", "auto"))
        return self._checked_dtype(name.removeprefix("torch."))

    def _checked_dtype(self, name: str) -> torch.dtype:
        for dtype in DTYPES:
            if str(dtype) == f"torch.{name}":
                return dtype
        raise ModelError(
            f"{self.folder.name} computes in {name}, which shards cannot hold", hint="give --dtype float32"
        )

    @property
    def bytes_per_example(self) -> int:
        """Bytes that one example adds to the dump, over all layers."""
        return len(self.layers) * self.facts.hidden_dim * self.saved_dtype.itemsize

    def bytes_of_memory(self, n_examples: int) -> int:
        """Return about what a run takes: the weights, the self-test or one unit's states, and one batch."""
        batch = self.config.batch_tokens * self.facts.hidden_dim * 4 * 16
        weights = weights_bytes(self.folder)
        return weights + max(n_examples * self.bytes_per_example, self._bytes_of_self_test(weights)) + batch

    def _bytes_of_self_test(self, weights: int) -> int:
        """Return the size of the float32 copy of the first blocks that a model in half precision is tested on."""
        dtype = str(self.facts.config.dtype if self.config.model_dtype == "auto" else self.config.model_dtype)
        if self.config.load_in_4bit or not dtype.endswith("float16"):
            return 0
        return int(2 * weights * min(1.0, BLOCKS_IN_FLOAT32 / self.facts.n_layers))

    @cached_property
    def loading(self) -> Loading:
        """How the model is loaded."""
        return Loading(
            model=self.folder,
            facts=self.facts,
            deepest=max(self.layers),
            dtype=self.config.model_dtype,
            device=self.device,
            load_in_4bit=self.config.load_in_4bit,
        )

    @cached_property
    def backbone(self) -> Backbone:
        """The model, loaded once for all datasets."""
        return load_backbone(self.loading)

    def reader(self, sample: Sequence[Example]) -> Reader:
        """Return the model, loaded, and tested on a sample of a dataset's examples."""
        reader = load_reader(
            self.loading,
            self.layers,
            sample,
            batch_size=self.config.batch_size,
            batch_tokens=self.config.batch_tokens,
            load=lambda _: self.backbone,
            ask_cpu=not self._was_asked,
        )
        self._was_asked = True
        of_model = str(reader.backbone.dtype).removeprefix("torch.")
        saved = self._checked_dtype(of_model) if self.config.dtype == "model" else self.saved_dtype
        return dataclasses.replace(reader, dtype=saved)

    def no_states(self, dropped: list[Dropped]) -> UnitStates:
        """Return a unit of which nothing is left."""
        empty = torch.empty(0, len(self.layers), self.facts.hidden_dim, dtype=self.saved_dtype)
        return UnitStates([], empty, dropped)


def states_of(
    reader: Reader, examples: list[Example], dropped: list[Dropped], more: Callable[[int], None]
) -> UnitStates:
    """Return the examples' states; those with NaN or infinity in them are dropped besides the others."""
    states_nld = read_states(reader, examples, lambda batch: more(len(batch)))
    finite_n = states_nld.isfinite().flatten(1).all(1)
    if finite_n.all():
        return UnitStates(examples, states_nld, dropped)
    judged = list(zip(examples, finite_n.tolist(), strict=True))
    lost = [Dropped(one.row.line, one.split, NOT_FINITE) for one, is_finite in judged if not is_finite]
    return UnitStates([one for one, is_finite in judged if is_finite], states_nld[finite_n], dropped + lost)
