"""`actlab compute-features`: from sentences to the activations of SAE features, one file a sentence."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from actlab.backends.memory import freed_memory_kept
from actlab.backends.saes.find import Encoders, find_saes
from actlab.backends.saes.sae import NOT_KNOWN, SaeFacts
from actlab.features.encode.compute import SaeCheck, encode_sentences
from actlab.features.encode.config import EncodeConfig
from actlab.features.encode.sink import UnitSink, finish
from actlab.features.encode.source import Dropped, units_of
from actlab.features.encode.states.model import ModelStates
from actlab.features.encode.states.sentence import StatesSource
from actlab.features.encode.states.stored import StoredStates
from actlab.formats.sentences.file import KIND
from actlab.ground.errors import ConfigError, DataError, ModelError
from actlab.ground.integrity import read_sealed_object, sealed_manifest
from actlab.ground.layers import parse_layers_arg
from actlab.ground.manifest import METADATA, Unit, n_dropped
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import NewFile, Plan, Staging, output_of, refuse_others, stage
from actlab.ground.units import Part

log = logging.getLogger("actlab")

_DEFLATED = {"hidden": 0.92, "activations": 1 / 100}
"""What deflate leaves of states, and of dense SAE activations: measured on Gemma-2-2B's shapes."""


class Computed(NamedTuple):
    """What became of a run."""

    path: Path
    is_sealed: bool
    """False where other parts are still at work."""
    n_sentences: int
    n_dropped: int
    """Sentences that are not in it."""
    measured_l0s: list[float]
    """By SAE, features that fire on a token."""
    explained_variances: list[float | None]
    """By SAE, the share of its input's variance that it gives back, on rows of the first unit; None where they are
    too few."""


class Planned(NamedTuple):
    """What a run would take."""

    path: Path
    n_units: int
    n_sentences: int
    n_rows: int
    bytes_dense: int
    bytes_sparse: int
    bytes_free: int
    bytes_of_memory: int


class _Job:
    """The settings, met with the sentences and the SAEs."""

    def __init__(self, config: EncodeConfig) -> None:
        self.config = config
        self.saes = _chosen_saes(config)
        self.layers = tuple(sorted({sae.layer for sae in self.saes}))
        self.states: StatesSource = StoredStates(config) if config.from_hidden is not None else ModelStates(config)
        self.states.check_layers(self.layers)
        self.described = self.states.describe()
        for sae in self.saes:
            if sae.d_in != self.states.hidden_dim:
                raise ConfigError(
                    f"{sae.path} reads {sae.d_in} numbers a token, but the states have {self.states.hidden_dim}",
                    hint="is it this model's SAE, and of the residual stream?",
                )
            _warn_of_another_model(sae, self.described)
        self.output = output_of(Path(os.path.expanduser(config.output)))

        if (
            config.from_hidden is not None
            and self.output.resolve() == Path(os.path.expanduser(config.from_hidden)).resolve()
        ):
            raise ConfigError("--output is the folder that --from-hidden reads", hint="choose another --output")

    def plan(self) -> Plan:
        """Return all that decides the folder's bytes."""
        identity = identity_of(self.config) | {
            "layers": list(self.layers),
            **self.described,
            "n_sentences": self.states.n_sentences,
            "hidden_dim": self.states.hidden_dim,
            "num_features": self.saes[0].n_features,
            "saes": [sae.as_identity() for sae in self.saes],
        }
        inputs = [*self.states.inputs(), *(entry for sae in self.saes for entry in sae.as_inputs())]
        return Plan(KIND, identity, inputs, units_of(self.states.n_sentences))


@takes(EncodeConfig)
def compute_features(config: EncodeConfig) -> Computed:
    """Encode sentences with SAEs; `EncodeConfig` has the settings.

    A finished folder with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    job = _Job(config)
    plan = job.plan()
    part = Part.parse(config.part or "1/1")
    refuse_others(job.output, plan, overwrite=config.overwrite)
    with stage(job.output, plan, part=part, overwrite=config.overwrite) as dataset:
        _work(job, dataset)
        dataset.seal(finish)
    return _outcome(dataset)


def _work(job: _Job, dataset: Staging) -> None:
    """Do the units of this task's part that are missing."""
    missing = dataset.missing()
    encoders, check = Encoders(job.saes, job.states.device), SaeCheck(job.saes)
    total = sum(unit["n"] for unit in missing)
    with progress("encoding", total=total, unit="sentence", quiet=job.config.quiet) as more, freed_memory_kept():
        for unit in missing:
            start = time.monotonic()
            sink = UnitSink(len(job.saes), job.states.environment, storage=job.config.storage, dtype=job.config.dtype)
            sink.inputs_checked = job.config.check if job.config.from_hidden is not None else None
            dataset.commit(unit, _unit_files(job, unit, encoders, check, sink), sink.record)
            dataset.log(
                {"unit": unit["unit"], "compute_s": round(time.monotonic() - start, 3), **job.states.environment()}
            )
            more(unit["n"])


def _unit_files(job: _Job, unit: Unit, encoders: Encoders, check: SaeCheck, sink: UnitSink) -> Iterator[NewFile]:
    """Yield a unit's files, some sentences' states in memory at a time."""
    for states, dropped in job.states.read(unit["first"], unit["n"], job.layers):
        if dropped and job.config.on_bad == "error":
            raise _refused(dropped[0])
        sink.drop(dropped)
        if states:
            encoded = encode_sentences(states, job.saes, job.layers, encoders)
            _heed(job, check.add(encoded))
            yield from sink.files(encoded)
    _heed(job, check.end_unit())
    if unit["unit"] == 0:  # whoever does it starts with it, so that its own rows alone were measured
        sink.explained_variances = check.explained


def _heed(job: _Job, problems: Sequence[ModelError]) -> None:
    """Stop at the first thing that the check found, or say them all."""
    for problem in problems:
        if job.config.l0_check == "stop":
            raise problem
        if job.config.l0_check == "warn":
            log.warning("%s", problem)


def _outcome(dataset: Staging) -> Computed:
    manifest = sealed_manifest(dataset.output) if dataset.sealed else None
    if manifest is None:
        return Computed(
            dataset.output, is_sealed=False, n_sentences=0, n_dropped=0, measured_l0s=[], explained_variances=[]
        )
    metadata = read_sealed_object(dataset.output / METADATA, measured_l0s=list)
    l0s = metadata["measured_l0s"]
    explained = metadata.get("explained_variances", [None] * len(l0s))  # datasets from before it was measured
    return Computed(dataset.output, True, metadata["n_sentences"], n_dropped(manifest), l0s, explained)


@takes(EncodeConfig)
def plan_features(config: EncodeConfig) -> Planned:
    """Return what a run with these settings would do and cost, without loading weights or writing."""
    job = _Job(config)
    refuse_others(job.output, job.plan(), overwrite=config.overwrite)
    n_rows = job.states.n_tokens()
    total, itemsize = sum(n_rows), {"float32": 4, "float16": 2}[config.dtype]
    hidden = total * (len(job.saes) + 1) * job.states.hidden_dim * itemsize
    dense = total * sum(sae.n_features for sae in job.saes) * itemsize
    l0s = sum(100 if sae.average_l0 == NOT_KNOWN else sae.average_l0 for sae in job.saes)
    there = next(folder for folder in (job.output, *job.output.absolute().parents) if folder.is_dir())
    return Planned(
        path=job.output,
        n_units=len(units_of(job.states.n_sentences)),
        n_sentences=len(n_rows),
        n_rows=total,
        bytes_dense=int(hidden * _DEFLATED["hidden"] + dense * _DEFLATED["activations"]),
        bytes_sparse=hidden + total * l0s * (itemsize + 4),
        bytes_free=shutil.disk_usage(there).free,
        bytes_of_memory=_bytes_of_memory(job, n_rows),
    )


def _warn_of_another_model(sae: SaeFacts, states: dict[str, Any]) -> None:
    """Say where an SAE's folder declares another model, another use of BOS, or another stream than it is given."""
    declared, name = sae.declared.get("model_name"), states.get("model_name")
    if declared and name and declared.split("/")[-1].lower() != str(name).split("/")[-1].lower():
        log.warning("the SAE of layer %d was trained on %s, and the states are of %s", sae.layer, declared, name)
    if sae.declared.get("prepend_bos") is False and states.get("leading_special_tokens"):
        log.warning("the SAE of layer %d was trained without BOS, and these states are with it", sae.layer)
    if sae.declared.get("is_centred"):
        log.warning(
            "the SAE of layer %d was trained on states less their mean (center_writing_weights), and these are whole",
            sae.layer,
        )


def _bytes_of_memory(job: _Job, n_rows: list[int]) -> int:
    """Return about what a run holds besides the model: encoders, a decoder, some sentences' states, one dense."""
    longest = max(n_rows, default=0)
    states = max(job.config.batch_tokens, longest) * (2 * len(job.layers) + 1) * job.states.hidden_dim * 4
    dense = longest * sum(sae.n_features for sae in job.saes) * 4
    encoders = [sae.bytes_of_encoder for sae in job.saes]
    return sum(encoders) + max(encoders) + states + dense


def _chosen_saes(config: EncodeConfig) -> list[SaeFacts]:
    """Return the SAEs that the settings leave of those in the folders.

    Raises:
        ConfigError: None is left, or they have different numbers of features.
    """
    saes = find_saes(config.sae, input_scale=config.input_scale)
    there = sorted({sae.layer for sae in saes})
    layers = there if config.layers == "all" else parse_layers_arg(config.layers)
    for layer in layers:
        if layer not in there:
            raise ConfigError(f"there is no SAE of layer {layer}", hint="there are of " + ", ".join(map(str, there)))
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


def _refused(dropped: Dropped) -> DataError:
    return DataError(
        f"sentence {dropped.sentence}: {dropped.reason}", hint="mend it, or leave --on-bad drop to go on without it"
    )
