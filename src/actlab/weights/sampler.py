"""What a run reads, and the networks that it is to train: each drawn from (seed, slot, try) alone."""

# n rows, p positions

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from actlab.backends.token_count import TokenCounter, find_tokenizer, tokenizer_sha256
from actlab.formats.sequence_sets import parse_sequences, read_file
from actlab.formats.weights import tokens_of
from actlab.ground.errors import ConfigError
from actlab.ground.manifest import Identity, InputEntry
from actlab.ground.options import identity_of
from actlab.ground.seeds import derive_seed
from actlab.ground.variants import plugins_identity
from actlab.weights.config.data_gen import WeightsSettings
from actlab.weights.networks import Architecture, initial_weights
from actlab.weights.patterns.pattern import Pattern
from actlab.weights.patterns.registry import PATTERNS, equivalents
from actlab.weights.patterns.space import Space
from actlab.weights.rows import DrawnRows, Rows, RowSizes, draw_others, draw_rows, too_small
from actlab.weights.signatures import SignatureRows
from actlab.weights.training.spec import Schedule, TrainingSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MADE_BY = "create-sig-dataset --config-path FILE.yaml --filename {} --size 200"

ACCEPTANCE = 2
"""Which networks are accepted; raised with every change of the criteria. A dataset that names none was made under 1:
a floor for the target pattern alone, no ceilings, and nothing measured as prompts show it."""

ARRANGEMENT = 1
"""How a unit's networks are put together for training; raised with a change that moves the last bits of weights."""

_FEWEST_FOR_HELDOUT = 4
"""Keeping a pair apart of fewer patterns would leave too few pattern sets to learn from."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One network to be trained for one slot of the dataset."""

    slot: int
    """The example's id, if it is accepted."""
    number: int
    """Which try of the slot, from 0."""
    architecture: Architecture
    patterns: tuple[Pattern, ...]
    target: int
    """Which of the patterns is corrupted in stage 1."""
    rows: DrawnRows
    corrupted: Bool[np.ndarray, " n"]
    """Which training rows have their label flipped in stage 1."""
    learning_rate: float
    family: str
    split: str

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns' names."""
        return tuple(pattern.name for pattern in self.patterns)

    @property
    def target_name(self) -> str:
        """The target pattern's name."""
        return self.patterns[self.target].name

    @property
    def n_target_rows(self) -> int:
        """Training rows that were drawn for the target pattern."""
        return int((self.rows.train.patterns == self.target).sum())


class Sampler:
    """The settings, met with the patterns that fit them and with what is read."""

    def __init__(self, config: WeightsSettings) -> None:
        self.config = config
        settings = config.dataset.patterns
        self.space = Space(
            config.model.vocab_size,
            config.model.sequence_length,
            first_token=ord(settings.starts_with_token) - ord("A"),
            last_token=ord(settings.ends_with_token) - ord("A"),
        )
        self.notes: list[str] = []
        """What the user should know of the patterns."""
        self.patterns = self._usable_patterns()
        self.heldout_pair = self._heldout_pair()

    @cached_property
    def signature_rows(self) -> SignatureRows:
        """The signature dataset.

        Raises:
            ActlabError: None is named, or it does not fit the settings.
        """
        space = self.space
        read = parse_sequences(
            self.signature_bytes,
            self.signature_path,
            vocab_size=space.vocab_size,
            sequence_length=space.length,
            made_by=_MADE_BY.format(self.signature_path),
        )
        return SignatureRows(tokens_of(read.sequences), np.array(read.labels), tuple(read.patterns))

    def signature_notes(self) -> Iterator[str]:
        """Say which rows of the signature dataset come again, or do not satisfy the pattern that they are said to."""
        rows = self.signature_rows
        if n_repeated := len(rows.tokens) - len(np.unique(rows.tokens, axis=0)):
            yield f"{n_repeated} sequences come more than once"
        for pattern in PATTERNS:
            if pattern.name not in rows.patterns:
                continue
            said_n = rows.labels & (np.array(rows.patterns) == pattern.name)
            if n_wrong := int((said_n & ~pattern.holds(rows.tokens, self.space)).sum()):
                of_all = f"{n_wrong} of {said_n.sum()}"
                yield f"{of_all} sequences that it calls {pattern.name} are not, with these settings"

    @cached_property
    def signature_bytes(self) -> bytes:
        """The signature dataset's file, read once.

        Raises:
            ActlabError: None is named, or it cannot be read.
        """
        return read_file(self.signature_path, made_by=_MADE_BY.format(self.signature_path))

    @property
    def signature_path(self) -> Path:
        """Where the signature dataset is.

        Raises:
            ConfigError: None is named.
        """
        path = self.config.signature.dataset_path
        if path is None:
            raise ConfigError(
                "signature.dataset_path is not set",
                hint="make one with: actlab " + _MADE_BY.format("sig.json"),
            )
        return path

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast | None":
        """The tokenizer that counts prompts; None where none is named."""
        name = self.config.task_generation.tokenizer
        return None if name is None else find_tokenizer(name)

    @cached_property
    def n_tokens(self) -> Callable[[str], int] | None:
        """A function that counts a text's tokens, without special ones; None without a tokenizer."""
        return None if self.tokenizer is None else TokenCounter(self.tokenizer).count

    def inputs(self) -> list[InputEntry]:
        """Return the manifest's entries for what is read."""
        data = self.signature_bytes
        sha256 = hashlib.sha256(data).hexdigest()
        entries: list[InputEntry] = [
            {"role": "signature_dataset", "name": self.signature_path.name, "bytes": len(data), "sha256": sha256}
        ]
        if self.tokenizer is not None:
            last = str(self.config.task_generation.tokenizer).rstrip("/").rsplit("/", 1)[-1]
            entries.append({"role": "tokenizer", "name": last, "sha256": tokenizer_sha256(self.tokenizer)})
        return entries

    def identity(self) -> Identity:
        """Return what decides the dataset besides what is read."""
        names = [pattern.name for pattern in self.patterns]
        identity = identity_of(self.config) | {
            "patterns": names,
            "heldout_pair": list(self.heldout_pair),
            "arrangement": ARRANGEMENT,
            "acceptance": ACCEPTANCE,
        }
        return identity | plugins_identity(identity.get("plugins"), PATTERNS.plugins_of(names))

    def schedule(self) -> Schedule:
        """Return the rules by which networks are trained."""
        staged, training = self.config.staged_training, self.config.training
        return Schedule(
            batch_size=training.batch_size,
            epochs=training.epochs,
            max_degraded_epochs=staged.max_degraded_epochs,
            min_improvement_threshold=staged.min_improvement_threshold,
            improvement_epochs=staged.improvement_epochs,
            improvement_lr_factor=staged.improvement_lr_factor,
            patience=training.early_stopping.patience,
            quantization=self.config.model.quantization,
            quantization_scale=self.config.model.quantization_scale,
        )

    def attempt(self, slot: int, number: int) -> Attempt:
        """Draw the network that a slot tries at its (number + 1)-th try.

        Raises:
            DataError: The patterns that were drawn leave too few rows.
        """
        config = self.config
        rng = np.random.default_rng(derive_seed(config.pipeline.random_seed, "slot", slot, number))
        architecture = self._architecture(rng)
        patterns = self._pattern_set(rng)
        target = int(rng.integers(len(patterns)))
        low, high = np.log(config.model.learning_rate.min), np.log(config.model.learning_rate.max)
        learning_rate = float(np.exp(rng.uniform(low, high)))
        rows = draw_rows(rng, patterns, space=self.space, sizes=self._sizes())
        corrupted = np.zeros(len(rows.train.labels), dtype=bool)
        of_target = np.flatnonzero(rows.train.patterns == target)
        n_corrupted = int(len(of_target) * config.staged_training.corruption_rate)
        corrupted[rng.choice(of_target, n_corrupted, replace=False)] = True
        names = [pattern.name for pattern in patterns]
        family = _family(names, architecture)
        return Attempt(
            slot,
            number,
            architecture,
            patterns,
            target,
            rows,
            corrupted,
            learning_rate,
            family,
            self._split(names, family),
        )

    def training_spec(self, attempt: Attempt) -> TrainingSpec:
        """Return an attempt as the trainer takes it, its first weights drawn from a stream of its own."""
        seed = derive_seed(self.config.pipeline.random_seed, "training", attempt.slot, attempt.number)
        train, validation = attempt.rows.train, attempt.rows.validation
        return TrainingSpec(
            architecture=attempt.architecture,
            initial=initial_weights(attempt.architecture, np.random.default_rng(seed)),
            learning_rate=attempt.learning_rate,
            seed=seed,
            train_tokens=train.tokens,
            corrupted_labels=train.labels ^ attempt.corrupted,
            clean_labels=train.labels,
            validation_tokens=validation.tokens,
            validation_labels=validation.labels,
        )

    def unlisted_rows(self, attempt: Attempt) -> Rows:
        """Draw rows of the dataset's other patterns that satisfy none of the network's own, from their own stream.

        `Rows.patterns` are places in `patterns`. One that hardly has such rows is left out: it is a part of the
        network's own, so that nobody can say that the network recognises it as well.
        """
        seed = derive_seed(self.config.pipeline.random_seed, "unlisted", attempt.slot, attempt.number)
        others = {place: one for place, one in enumerate(self.patterns) if one not in attempt.patterns}
        return draw_others(
            np.random.default_rng(seed),
            others,
            own=attempt.patterns,
            drawn=attempt.rows,
            space=self.space,
            n=self.config.validation.test_set_size // 2,
        )

    def _usable_patterns(self) -> tuple[Pattern, ...]:
        """Return the enabled patterns that have sequences enough.

        Raises:
            ConfigError: One has not and `strict` is set, or too few are left for a network.
        """
        settings = self.config.dataset.patterns
        named = {PATTERNS[name].name for name in settings.enabled_patterns}
        usable: list[Pattern] = []
        for pattern in [one for one in PATTERNS if one.name in named] or PATTERNS.shipped:
            same = {one.name for one in usable} & set(equivalents(pattern.name))
            if same and not settings.allow_equivalent:
                self.notes.append(f"{pattern.name} is the same set of sequences as {min(same)}; it is left out")
            elif not too_small(pattern, self.space):
                usable.append(pattern)
            else:
                what = (
                    f"{pattern.name} has {pattern.count(self.space)} sequences of {self.space.length} letters from "
                    f"{self.space.letters}: too few to hold out ten"
                )
                if settings.strict:
                    hint = f"take it out of dataset.patterns.enabled_patterns, or omit --strict, or {pattern.hint}"
                    raise ConfigError(what, hint=hint)
                self.notes.append(f"{what}; it is left out")
        if len(usable) < settings.max_patterns_per_batch:
            raise ConfigError(
                f"{len(usable)} different patterns can be used, fewer than max_patterns_per_batch "
                f"{settings.max_patterns_per_batch}",
                hint="enable more patterns, or lower dataset.patterns.max_patterns_per_batch",
            )
        return tuple(usable)

    def _heldout_pair(self) -> tuple[str, ...]:
        """Return two patterns that only networks of the split "heldout" have together."""
        names = [pattern.name for pattern in self.patterns]
        settings = self.config.dataset
        if not settings.splits.heldout or settings.patterns.max_patterns_per_batch < 2:
            return ()
        if len(names) < _FEWEST_FOR_HELDOUT or settings.patterns.min_patterns_per_batch > len(names) // 2:
            self.notes.append(f"no pair of the {len(names)} patterns is held out: most networks would have it")
            return ()
        rng = np.random.default_rng(derive_seed(self.config.pipeline.random_seed, "heldout"))
        return tuple(names[index] for index in sorted(rng.choice(len(names), 2, replace=False)))

    def _architecture(self, rng: np.random.Generator) -> Architecture:
        model = self.config.model
        return Architecture(
            vocab_size=model.vocab_size,
            sequence_length=model.sequence_length,
            num_layers=int(rng.integers(model.num_layers.min, model.num_layers.max + 1)),
            neurons_per_layer=int(rng.integers(model.neurons_per_layer.min, model.neurons_per_layer.max + 1)),
            activation_type=model.activation_types[int(rng.integers(len(model.activation_types)))],
            dropout_rate=model.dropout_rate,
        )

    def _pattern_set(self, rng: np.random.Generator) -> tuple[Pattern, ...]:
        settings = self.config.dataset.patterns
        n = int(rng.integers(settings.min_patterns_per_batch, settings.max_patterns_per_batch + 1))
        return tuple(self.patterns[index] for index in sorted(rng.choice(len(self.patterns), n, replace=False)))

    def _sizes(self) -> RowSizes:
        patterns = self.config.dataset.patterns
        return RowSizes(
            target_total_examples=patterns.target_total_examples,
            max_total_examples=patterns.max_total_examples,
            min_per_pattern=patterns.samples_per_pattern.min,
            negative_ratio=patterns.negative_ratio,
            validation_split=self.config.training.validation_split,
            test_set_size=self.config.validation.test_set_size,
        )

    def _split(self, names: Sequence[str], family: str) -> str:
        """Return the split of a family: all of its networks are in one."""
        if self.heldout_pair and set(self.heldout_pair) <= set(names):
            return "heldout"
        splits = self.config.dataset.splits
        place = derive_seed(self.config.pipeline.random_seed, "family", family) / 2**63
        if place < splits.test:
            return "test"
        return "validation" if place < splits.test + splits.validation else "train"


def _family(names: Sequence[str], architecture: Architecture) -> str:
    """Return what a network's family is called: its pattern set and its architecture.

    >>> _family(["palindrome", "no_repeats"], Architecture(7, 7, 6, 32, "relu"))
    'palindrome+no_repeats|6x32|relu'
    """
    shape = f"{architecture.num_layers}x{architecture.neurons_per_layer}"
    return f"{'+'.join(names)}|{shape}|{architecture.activation_type}"
