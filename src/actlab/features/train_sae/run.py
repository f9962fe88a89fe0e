"""`actlab train-sae`: one small SAE a layer, a unit each."""

import dataclasses
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from actlab.backends.devices import device_errors
from actlab.backends.hub import find_model, model_files
from actlab.backends.models import Loading, environment, load_tokenizer, pick_device, read_facts, token_limit
from actlab.backends.reader import Reader, TokenSpan
from actlab.backends.saes import saelens
from actlab.backends.selftest import load_reader
from actlab.features.train_sae.compute import Sae, Step, train
from actlab.features.train_sae.config import TrainSaeConfig
from actlab.features.train_sae.source import read_texts, residual_batches, tokenise
from actlab.ground.errors import DataError
from actlab.ground.layers import parse_layers
from actlab.ground.made_on import made_on
from actlab.ground.manifest import METADATA, file_entry, to_json
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Plan, Staging, output_of, refuse_others, stage
from actlab.ground.units import Part

log = logging.getLogger("actlab")

KIND = "saes"
_CURVE_POINTS = 100
_ROUNDING = 1e-5
"""Of a state, relative to its norm: a hundred times float32's own, as it adds up over the layers."""
_SMALLER = "lower --n-features or --batch-size, or use --device cpu"


class TrainedSaes(NamedTuple):
    """What a run came to."""

    path: Path
    is_sealed: bool
    """False where other parts are still at work."""
    layers: list[int]


class PlannedSaes(NamedTuple):
    """What a run would take."""

    path: Path
    layers: list[int]
    """A unit each."""
    n_texts: int
    n_tokens: int
    n_steps: int
    """Of each layer."""
    bytes_to_write: int


class _Job:
    """The settings, met with the model and the texts."""

    def __init__(self, config: TrainSaeConfig) -> None:
        self.config = config
        self.model = find_model(config.model, config.revision, code=config.trust_remote_code)
        self.facts = read_facts(self.model, trust_remote_code=config.trust_remote_code)
        self.layers = parse_layers(config.layers, self.facts.n_layers)
        self.device = pick_device(config.device)
        self.source = read_texts(config.input, text_column=config.text_column, limit=config.limit)
        tokenizer = load_tokenizer(self.model, trust_remote_code=config.trust_remote_code)
        self.max_tokens = token_limit(self.facts, tokenizer, config.max_length)
        self.texts: list[TokenSpan] = tokenise(tokenizer, self.source.texts, self.max_tokens)
        self.output = output_of(Path(os.path.expanduser(config.output)))

    @cached_property
    def reader(self) -> Reader:
        """The model, loaded once for all layers."""
        loading = Loading(
            model=self.model,
            facts=self.facts,
            deepest=max(self.layers),
            device=self.device,
            trust_remote_code=self.config.trust_remote_code,
        )
        reader = load_reader(loading, self.layers, self.texts, batch_size=32, batch_tokens=4096)
        return dataclasses.replace(reader, dtype=torch.float32)

    def plan(self) -> Plan:
        """Return all that decides the SAEs' bytes."""
        identity = identity_of(self.config) | {
            "layers": list(self.layers),
            "model_name": self.model.name,
            "revision": self.model.revision,
            "hidden_dim": self.facts.hidden_dim,
            "sae_lens_version": saelens.VERSION,  # before, cfg.json named none
        }
        inputs = [
            file_entry("texts", self.source.path),
            *({"role": "model", **file} for file in model_files(self.model)),
        ]
        return Plan(KIND, identity, inputs, [{"unit": unit, "layer": one} for unit, one in enumerate(self.layers)])


@takes(TrainSaeConfig)
def train_sae(config: TrainSaeConfig) -> TrainedSaes:
    """Train one SAE a layer; `TrainSaeConfig` has the settings.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    job = _Job(config)
    plan = job.plan()
    refuse_others(job.output, plan, overwrite=config.overwrite)
    with stage(job.output, plan, part=Part.parse(config.part or "1/1"), overwrite=config.overwrite) as dataset:
        missing = dataset.missing()
        with progress("training SAEs", total=len(missing) * config.n_steps, unit="step", quiet=config.quiet) as more:
            for unit in missing:
                start = time.monotonic()
                with device_errors(job.device, if_out_of_memory=_SMALLER):
                    files, record = _train_layer(job, unit["layer"], more)
                dataset.commit(unit, files, record)
                dataset.log({"layer": unit["layer"], "train_s": round(time.monotonic() - start, 3)})
        dataset.seal(finish)
    return TrainedSaes(job.output, dataset.sealed, list(job.layers))


@takes(TrainSaeConfig)
def plan_sae_training(config: TrainSaeConfig) -> PlannedSaes:
    """Return what a run with these settings would do, without loading weights or writing."""
    job = _Job(config)
    refuse_others(job.output, job.plan(), overwrite=config.overwrite)
    n_tokens = sum(text.stop - text.start for text in job.texts)
    of_layer = 4 * (2 * job.facts.hidden_dim + 2) * config.n_features
    return PlannedSaes(
        job.output, list(job.layers), len(job.texts), n_tokens, config.n_steps, of_layer * len(job.layers)
    )


def _train_layer(job: _Job, layer: int, more: Callable[[int], None]) -> tuple[list[NewFile], dict[str, Any]]:
    """Train the SAE of one layer and return its files and its record."""
    config = job.config
    reader = dataclasses.replace(job.reader, layers=(layer,))
    batches = residual_batches(
        reader, job.texts, batch_size=config.batch_size, n_steps=config.n_steps + 1, seed=config.seed
    )
    first_td = next(batches).to(job.device)
    _refuse_equal_states(first_td, layer)
    scale = job.facts.hidden_dim**0.5 / float(first_td.norm(dim=1).mean())
    draw = torch.Generator().manual_seed(derive_seed(config.seed, "sae", layer))
    over_batch = config.architecture == "jumprelu"
    sae = Sae(job.facts.hidden_dim, config.n_features, config.k, over_batch=over_batch, draw=draw)
    with torch.no_grad():
        sae.b_dec.copy_((first_td * scale).mean(0))
    sae.to(job.device)
    curve: list[Step] = []
    with _curves(job, layer) as draw_step:

        def on_step(number: int, step: Step) -> None:
            if number % max(1, config.n_steps // _CURVE_POINTS) == 0 or number == config.n_steps - 1:
                curve.append(step)
                draw_step(number, step)
            more(1)

        n_more = config.n_steps - 1
        scaled = (x_td.to(job.device) * scale for x_td in _chain(first_td, itertools.islice(batches, n_more)))
        train(sae, scaled, n_steps=config.n_steps, learning_rate=config.learning_rate, on_step=on_step)
    weights = sae.folded(scale)
    _refuse_diverged(curve, weights, layer)
    last = curve[-1]._replace(l0=sae.l0(next(batches).to(job.device) * scale))
    log.info(
        "layer %d: explained variance %.3f, L0 %.1f, %.1f %% of the features dead",
        *(layer, last.explained_variance, last.l0, 100 * last.dead_share),
    )
    return list(_files(job, layer, weights, last)), {
        "environment": environment(job.device, job.reader.backbone.module),
        "layer": layer,
        "last": last._asdict(),
        "curve": [list(step) for step in curve],
    }


def _refuse_equal_states(x_td: Tensor, layer: int) -> None:
    """Refuse states whose differences are those of float32 rounding: an SAE that explains them explains nothing.

    Raises:
        DataError: They are, or there is one state alone.
    """
    x_td = x_td.cpu().double()  # mps has none
    if float((x_td - x_td.mean(0)).norm()) <= _ROUNDING * float(x_td.norm()):
        raise DataError(
            f"the states of layer {layer} are all the same but for rounding",
            hint="give texts of different tokens, or more tokens a step (--batch-size)",
        )


def _refuse_diverged(curve: list[Step], weights: dict[str, Tensor], layer: int) -> None:
    """Refuse an SAE whose loss, or a weight in the last step, became NaN or infinite.

    Raises:
        DataError: It did.
    """
    is_finite = all(bool(weight.isfinite().all()) for weight in weights.values())
    if not is_finite or not all(math.isfinite(number) for step in curve for number in step):
        raise DataError(
            f"training the SAE of layer {layer} left the range of floating-point numbers",
            hint="give more texts, more tokens a step (--batch-size), or a smaller --learning-rate",
        )


def _chain(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _files(job: _Job, layer: int, weights: dict[str, Tensor], last: Step) -> Iterator[NewFile]:
    """Yield an SAE's folder in SAELens' format."""
    config = job.config
    content: dict[str, Any] = {
        "architecture": config.architecture,
        "d_in": job.facts.hidden_dim,
        "d_sae": config.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": saelens.VERSION,
            "sae_lens_training_version": None,
            "model_name": job.model.name,
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "prepend_bos": job.texts[0].start > 0,
            "context_size": job.max_tokens,
            "average_l0": max(1, round(config.k if config.architecture == "topk" else last.l0)),
            "explained_variance": round(last.explained_variance, 3),
            "trained_by": "actlab train-sae",
        },
    }
    if config.architecture == "topk":
        content |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    folder = f"layer_{layer:02d}"
    yield NewFile(f"{folder}/{saelens.WEIGHTS}", save(weights))
    yield NewFile(f"{folder}/{saelens.FILE}", to_json(content))


@contextmanager
def _curves(job: _Job, layer: int) -> Iterator[Callable[[int, Step], None]]:
    """Lend a function that draws a step's numbers in TensorBoard, beside the output: its files hold times."""
    if not job.config.tensorboard:
        yield lambda number, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    folder = job.output.with_name(job.output.name + ".tensorboard") / f"layer_{layer:02d}"
    with SummaryWriter(str(folder)) as writer:

        def draw(number: int, step: Step) -> None:
            for name, value in step._asdict().items():
                writer.add_scalar(name, value, number)

        yield draw


def finish(staging: Staging) -> Finish:
    """Return the folder's metadata: what each SAE came to, and its curve."""
    identity = staging.plan.identity
    records = list(staging.records())
    metadata = {
        "model_name": identity["model_name"],
        "architecture": identity["architecture"],
        "layers": identity["layers"],
        "n_features": identity["n_features"],
        "k": identity["k"],
        "results": {str(record["layer"]): record["last"] for record in records},
        "curve_columns": list(Step._fields),
        "curves": {str(record["layer"]): record["curve"] for record in records},
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": staging.plan.fingerprint,
    }
    return Finish([], {METADATA: metadata}, {"made_on": made_on(record["environment"] for record in records)})
