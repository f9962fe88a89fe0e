"""`actlab compute-features`: from sentences to the activations of SAE features, one file a sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NotRequired, TypedDict

from actlab.backends.memory import freed_memory_kept
from actlab.backends.saes.families import FAMILIES
from actlab.backends.saes.find import Encoders, find_saes
from actlab.backends.saes.sae import NOT_KNOWN, SaeFacts
from actlab.features import kind  # noqa: F401  registers the kind
from actlab.features.encode.compute import SaeCheck, encode_sentences
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.sink import UnitSink
from actlab.features.encode.source import units_of
from actlab.features.encode.states.model import ModelStates
from actlab.features.encode.states.stored import StoredStates
from actlab.formats.sentences.file import KIND
from actlab.ground.errors import ConfigError, DataError, ModelError
from actlab.ground.integrity import read_sealed_as
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.layers import parse_layers_arg
from actlab.ground.log import log
from actlab.ground.manifest import METADATA, Unit
from actlab.ground.options import identity_of, takes
from actlab.ground.printing import format_bytes
from actlab.ground.progress import More
from actlab.ground.storage import NewFile, Plan, output_of
from actlab.ground.variants import plugins_identity

_DEFLATED = {"hidden": 0.92, "activations": 1 / 100}
"""What deflate leaves of states, and of dense SAE activations: measured on Gemma-2-2B's shapes."""


@dataclass(frozen=True, kw_only=True)
class Computed(Outcome):
    """What became of a run."""

    n_sentences: int = 0
    measured_l0s: list[float | None] = field(default_factory=list)
    """By SAE, features that fire on a token."""
    explained_variances: list[float | None] = field(default_factory=list)
    """By SAE, the share of its input's variance that it gives back, on rows of the first unit; None where they are
    too few."""

    def tell(self) -> None:
        """Log what was dropped."""
        if self.is_sealed and not self.n_sentences:  # an earlier version sealed it
            log.warning("%s: it is empty, every sentence was dropped", self.path)
        if self.n_dropped:
            log.warning("%s: %d sentences dropped, listed in its dropped.jsonl", self.path, self.n_dropped)


class _Metadata(TypedDict):
    dropped: dict[str, int]
    n_sentences: int
    measured_l0s: list[float | None]
    explained_variances: NotRequired[list[float | None]]
    """Datasets from before it was measured have none."""


@takes(EncodeConfig)
def compute_features(config: EncodeConfig) -> Computed:
    """Encode sentences with SAEs; `EncodeConfig` has the settings.

    A finished folder with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: EncodeConfig) -> list[list["EncodeJob"]]:
    """Return the one job."""
    return [[EncodeJob(config)]]


class EncodeJob(DatasetJob[Computed]):
    """Sentences, by a model or from files, with some SAEs."""

    config: EncodeConfig

    def __init__(self, config: EncodeConfig) -> None:
        super().__init__(config, output_of(config.output))
        self.saes = _chosen_saes(config)
        self.layers = tuple(sorted({sae.layer for sae in self.saes}))
        self.states = (ModelStates if config.from_hidden is None else StoredStates)(config, self.layers)
        self.described = self.states.describe()
        for sae in self.saes:
            if sae.d_in != self.states.hidden_dim:
                raise ConfigError(
                    f"{sae.path} reads {sae.d_in} numbers a token, but the states have {self.states.hidden_dim}",
                    hint="is it this model's SAE, and of the residual stream?",
                )
            _warn_of_another_model(sae, self.described)
        if config.from_hidden is not None and self.output.resolve() == config.from_hidden.resolve():
            raise ConfigError("--output is the folder that --from-hidden reads", hint="choose another --output")

    @cached_property
    def plan(self) -> Plan:
        """All that decides the folder's bytes."""
        identity = identity_of(self.config) | {
            "layers": list(self.layers),
            **self.described,
            "n_sentences": self.states.n_sentences,
            "hidden_dim": self.states.hidden_dim,
            "num_features": self.saes[0].n_features,
            "saes": [sae.as_identity() for sae in self.saes],
        }
        used = FAMILIES.plugins_of(sae.family for sae in self.saes)
        identity |= plugins_identity(identity.get("plugins", {}), used)
        inputs = [*self.states.inputs(), *(entry for sae in self.saes for entry in sae.as_inputs())]
        return Plan(KIND, identity, inputs, units_of(self.states.n_sentences))

    def bar(self, units: Sequence[int]) -> Bar:
        """Count sentences."""
        return Bar("encoding", "sentence", sum(self.plan.units[unit]["n"] for unit in units))

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """Lend a worker with the SAEs' encoders, and with one check of them over all units."""
        encoders, check = Encoders(self.saes, self.states.device), SaeCheck(self.saes)

        def do_unit(number: int, more: More) -> Done:
            sink = UnitSink(self.config, len(self.saes), self.states.environment)
            files = self._files(self.plan.units[number], encoders, check, sink, more)
            return Done(files, sink.record, self.states.environment)

        with freed_memory_kept():
            yield do_unit

    def _files(self, unit: Unit, encoders: Encoders, check: SaeCheck, sink: UnitSink, more: More) -> Iterator[NewFile]:
        """Yield a unit's files, some sentences' states in memory at a time."""
        for states, dropped in self.states.read(unit["first"], unit["n"]):
            if dropped and self.config.on_bad == "error":
                raise DataError(
                    f"sentence {dropped[0].sentence}: {dropped[0].reason}",
                    hint="mend it, or leave --on-bad drop to go on without it",
                )
            sink.dropped += dropped
            if states:
                encoded = encode_sentences(states, self.saes, self.layers, encoders)
                self._heed(check.add(encoded))
                yield from sink.files(encoded)
        self._heed(check.end_unit())
        if unit["unit"] == 0:  # whoever does it starts with it, so that its own rows alone were measured
            sink.explained_variances = check.explained
        more(unit["n"])

    def _heed(self, problems: Sequence[ModelError]) -> None:
        """Stop at the first thing that the check found, or say them all."""
        for problem in problems:
            if self.config.l0_check == "stop":
                raise problem
            if self.config.l0_check == "warn":
                log.warning("%s", problem)

    def outcome(self) -> Computed:
        """Return what is in the folder, by its metadata."""
        if not self.is_sealed:
            return Computed(path=self.output, is_sealed=False)
        metadata = read_sealed_as(self.output / METADATA, _Metadata)
        return Computed(
            path=self.output,
            n_sentences=metadata["n_sentences"],
            n_dropped=sum(metadata["dropped"].values()),
            measured_l0s=metadata["measured_l0s"],
            explained_variances=metadata.get("explained_variances") or [None for _ in self.saes],
        )

    def cost(self) -> Cost:
        """Count tokens, without loading any weights.

        The memory is that of the encoders, a decoder, some sentences' states and one sentence's dense activations.
        """
        config, hidden_dim, n_rows = self.config, self.states.hidden_dim, self.states.n_tokens()
        total, itemsize = sum(n_rows), {"float32": 4, "float16": 2}[config.dtype]
        n_features = sum(sae.n_features for sae in self.saes)
        hidden = total * (len(self.saes) + 1) * hidden_dim * itemsize
        l0s = sum(100 if sae.average_l0 == NOT_KNOWN else sae.average_l0 for sae in self.saes)
        dense = int(hidden * _DEFLATED["hidden"] + total * n_features * itemsize * _DEFLATED["activations"])
        sparse = hidden + total * l0s * (itemsize + 4)
        longest, encoders = max(n_rows, default=0), [sae.bytes_of_encoder for sae in self.saes]
        states = max(config.batch_tokens, longest) * (2 * len(self.layers) + 1) * hidden_dim * 4
        return Cost(
            path=self.output,
            n_units=len(self.plan.units),
            n_records=len(n_rows),
            records="sentences",
            bytes_to_write=dense if config.storage == "dense" else sparse,
            bytes_of_memory=sum(encoders) + max(encoders) + states + longest * n_features * 4,
            notes=(
                f"{total} rows: about {format_bytes(dense)} with --storage dense, {format_bytes(sparse)} with sparse",
                "memory is counted besides the model's",
            ),
            details={"n_sentences": len(n_rows), "n_rows": total, "bytes_dense": dense, "bytes_sparse": sparse},
        )


def _warn_of_another_model(sae: SaeFacts, states: dict[str, object]) -> None:
    """Say where an SAE's folder declares another model, another use of BOS, or another stream than it is given."""
    of_sae, name = sae.declared.get("model_name"), states.get("model_name")
    unlike = {
        f"on {of_sae}, and the states are of {name}": (
            of_sae and name and str(of_sae).split("/")[-1].lower() != str(name).split("/")[-1].lower()
        ),
        "without BOS, and these states are with it": (
            sae.declared.get("prepend_bos") is False and states.get("leading_special_tokens")
        ),
        "on states less their mean (center_writing_weights), and these are whole": sae.declared.get("is_centred"),
    }
    for how, is_so in unlike.items():
        if is_so:
            log.warning("the SAE of layer %d was trained %s", sae.layer, how)


def _chosen_saes(config: EncodeConfig) -> list[SaeFacts]:
    """Return the SAEs that the settings leave of those in the folders.

    Raises:
        ConfigError: None is left, or they have different numbers of features.
    """
    saes = find_saes(config.sae, input_scale=config.input_scale)
    there = sorted({sae.layer for sae in saes})
    layers = there if config.layers == "all" else parse_layers_arg(config.layers)
    if lacking := [layer for layer in layers if layer not in there]:
        raise ConfigError(f"there is no SAE of layer {lacking[0]}", hint="there are of " + ", ".join(map(str, there)))
    chosen = [sae for sae in saes if sae.layer in layers]
    if config.average_l0 is not None:
        l0s = sorted({sae.average_l0 for sae in chosen})
        chosen = [sae for sae in chosen if sae.average_l0 == config.average_l0]
        if lacking := [layer for layer in layers if layer not in {sae.layer for sae in chosen}]:
            raise ConfigError(
                f"average_l0 mismatch: layer {lacking[0]} has no SAE of average_l0 {config.average_l0}",
                hint="there are " + ", ".join(map(str, l0s)),
            )
    if len({sae.n_features for sae in chosen}) > 1:
        sizes = ", ".join(sorted({str(sae.n_features) for sae in chosen}))
        raise ConfigError(f"the SAEs have different numbers of features: {sizes}", hint="encode each width by itself")
    return chosen
