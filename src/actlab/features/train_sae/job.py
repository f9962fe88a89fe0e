"""`actlab train-sae`: one small SAE a layer, a unit each."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch

from actlab.backends.devices import device_errors
from actlab.backends.hub import find_model
from actlab.backends.models import Loading, OpenModel, environment
from actlab.backends.reader import Reader
from actlab.backends.saes import saelens
from actlab.backends.selftest import load_reader
from actlab.features import kind  # noqa: F401  registers the kind
from actlab.features.train_sae.compute import train_on
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.features.train_sae.sink import KIND, LayerRecord, curves, folder_of, sae_files
from actlab.features.train_sae.source import read_texts, residual_batches, tokenise
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, run_job
from actlab.ground.layers import parse_layers
from actlab.ground.manifest import file_entry
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.storage import Plan, output_of

_SMALLER = "lower --n-features or --batch-size, or use --device cpu"


@dataclass(frozen=True, kw_only=True)
class TrainedSaes(Outcome):
    """What a run came to."""

    layers: list[int]


@takes(TrainSaeConfig)
def train_sae(config: TrainSaeConfig) -> TrainedSaes:
    """Train one SAE a layer; `TrainSaeConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: TrainSaeConfig) -> list[list["TrainSaeJob"]]:
    """Return the one job."""
    return [[TrainSaeJob(config)]]


class TrainSaeJob(DatasetJob[TrainedSaes]):
    """The texts and some layers of a model, a layer's SAE in each unit."""

    config: TrainSaeConfig

    def __init__(self, config: TrainSaeConfig) -> None:
        super().__init__(config, output_of(config.output))
        folder = find_model(config.model, config.revision, code=config.trust_remote_code)
        self.model = OpenModel(folder, device=config.device, max_length=config.max_length)
        self.layers = parse_layers(config.layers, self.model.facts.n_layers)
        texts = read_texts(config.input, text_column=config.text_column, limit=config.limit)
        self.texts = tokenise(self.model.tokenizer, texts, self.model.max_tokens)

    @cached_property
    def reader(self) -> Reader:
        """The model, loaded once for all layers."""
        loading = Loading(
            model=self.model.folder,
            facts=self.model.facts,
            deepest=max(self.layers),
            device=self.model.device,
        )
        return load_reader(loading, self.layers, self.texts, batch_size=32, batch_tokens=4096, dtype=torch.float32)

    @cached_property
    def plan(self) -> Plan:
        """All that decides the SAEs' bytes."""
        identity = identity_of(self.config) | {
            "layers": list(self.layers),
            "model_name": self.model.folder.name,
            "revision": self.model.folder.revision,
            "hidden_dim": self.model.facts.hidden_dim,
            "sae_lens_version": saelens.VERSION,  # before, cfg.json named none
        }
        inputs = [file_entry("texts", self.config.input), *self.model.input_files]
        return Plan(KIND, identity, inputs, [{"unit": unit, "layer": one} for unit, one in enumerate(self.layers)])

    def bar(self, units: Sequence[int]) -> Bar:
        """Count steps."""
        return Bar("training SAEs", "step", len(units) * self.config.n_steps)

    def do_unit(self, number: int, more: More) -> Done:
        """Train the SAE of one layer. Its curves are drawn beside the output, as TensorBoard's files hold times."""
        config, layer = self.config, self.layers[number]
        beside = self.output.with_name(self.output.name + ".tensorboard") / folder_of(layer)
        with device_errors(self.model.device, if_out_of_memory=_SMALLER):
            batches = residual_batches(
                dataclasses.replace(self.reader, layers=(layer,)),
                self.texts,
                batch_size=config.batch_size,
                seed=config.seed,
            )
            drawn = curves(beside) if config.tensorboard else nullcontext(lambda number, step: None)
            trained = train_on(batches, config, layer, device=self.model.device, curves=drawn, more=more)
        about = {
            "model_name": self.model.folder.name,
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "prepend_bos": self.texts[0].start > 0,
            "context_size": self.model.max_tokens,
        }
        record = LayerRecord(
            environment=environment(self.model.device, self.reader.backbone.module),
            layer=layer,
            last=trained.last._asdict(),
            curve=[list(step) for step in trained.curve],
        )
        return Done(sae_files(trained, config, layer, about), record, lambda: {"layer": layer})

    def outcome(self) -> TrainedSaes:
        """Return which layers have an SAE."""
        return TrainedSaes(path=self.output, is_sealed=self.is_sealed, layers=list(self.layers))

    def cost(self) -> Cost:
        """Count tokens, without loading weights."""
        n_layers, n_steps, n_features = len(self.layers), self.config.n_steps, self.config.n_features
        return Cost(
            path=self.output,
            n_units=n_layers,
            n_records=len(self.texts),
            records="texts",
            n_tokens=sum(text.stop - text.start for text in self.texts),
            bytes_to_write=n_layers * 4 * (2 * self.model.facts.hidden_dim + 2) * n_features,
            notes=(f"{n_layers} layers, {n_steps} steps each",),
            details={"layers": list(self.layers), "n_texts": len(self.texts), "n_steps": n_steps},
        )
