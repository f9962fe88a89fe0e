"""`actlab train-gpt`: from a token dataset to a model in Hugging Face format."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from actlab.backends.devices import device_errors
from actlab.backends.gpt_trainer import (
    SHAPES,
    ParameterCounts,
    Schedule,
    count_parameters,
    new_gpt,
    new_optimizer,
)
from actlab.backends.models import environment, pick_device
from actlab.backends.threads import one_thread
from actlab.ground.integrity import read_sealed_object
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import progress
from actlab.ground.storage import SINGLE, Plan, Staging, output_of, refuse_others, stage
from actlab.ground.units import Part
from actlab.text.train_gpt.checkpoints import MOST_AT_ONCE, Checkpoints
from actlab.text.train_gpt.compute import Look, Run, sample, sample_seeds, train, validation_loss
from actlab.text.train_gpt.config import TrainGptConfig
from actlab.text.train_gpt.sink import KIND, finish, gpt_files, metadata_of
from actlab.text.train_gpt.source import (
    Source,
    count_steps,
    open_source,
    steps_an_epoch,
    training_batches,
    validation_batches,
)

log = logging.getLogger("actlab")

_ROTARY_REACH = 4
"""A Llama's longest input, in training contexts: rotary positions go on past it, with worse predictions."""
_COPIES = 3
"""A checkpoint is so many times the model's size: AdamW keeps two means for every number."""


class TrainedGpt(NamedTuple):
    """What a run came to."""

    path: Path
    n_parameters: int
    n_steps: int
    val_loss: float | None
    """Nats a token of the whole validation split; None where nothing was held out."""
    val_perplexity: float | None


class PlannedGpt(NamedTuple):
    """What a run would take."""

    path: Path
    parameters: ParameterCounts
    n_train_tokens: int
    n_steps: int
    n_epochs: float
    bytes_to_write: int
    checkpoint_bytes: int
    """Of all checkpoints that lie there at a time; they are gone in the end."""


class _Job:
    """The settings, met with the tokens."""

    def __init__(self, config: TrainGptConfig) -> None:
        self.config = config
        self.source: Source = open_source(config)
        self.output = output_of(Path(os.path.expanduser(config.output)))
        self.device = pick_device(config.device)
        n_steps = count_steps(self.source, config)
        self.schedule = Schedule(config.learning_rate, n_steps, round(config.warm_up * n_steps))

    def plan(self) -> Plan:
        """Return all that decides the model's bytes, on one kind of machine."""
        identity = identity_of(self.config) | {"n_steps": self.schedule.n_steps}
        return Plan(KIND, identity, self.source.inputs(), SINGLE)

    def new_model(self) -> Any:
        """Make the untrained model."""
        config = self.config
        return new_gpt(
            *(config.architecture, SHAPES[config.model_size], self.source.vocabulary),
            max_positions=config.context * (_ROTARY_REACH if config.architecture == "llama" else 1),
            seed=config.seed,
        )

    def new_run(self) -> Run:
        """Make the run at its start."""
        model = self.new_model().to(self.device)
        return Run(model, new_optimizer(model, weight_decay=self.config.weight_decay))


@takes(TrainGptConfig)
def train_gpt(config: TrainGptConfig) -> TrainedGpt:
    """Train a GPT on a token dataset and save it; `TrainGptConfig` has the settings.

    A model that is there with the same settings and tokens is left as it is; a training that was stopped goes
    on from its last checkpoint and comes to the same model.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    job = _Job(config)
    plan = job.plan()
    refuse_others(job.output, plan, overwrite=config.overwrite)
    checkpoints = Checkpoints(job.output, plan.fingerprint)
    with stage(job.output, plan, part=Part(), overwrite=config.overwrite) as dataset:
        for unit in dataset.missing():
            with device_errors(job.device, if_out_of_memory="lower --batch-size or --context, or use --device cpu"):
                run = _train(job, checkpoints, dataset)
            metadata = metadata_of(run, job.source, config, plan)
            record = {"metadata": metadata, "made_on": run.made_on}
            dataset.commit(unit, gpt_files(run.model, job.source.tokenizer), record)
        dataset.seal(finish)
    checkpoints.remove()
    made = read_sealed_object(job.output / METADATA, n_parameters=dict)
    total = made["n_parameters"]["total"]
    return TrainedGpt(job.output, total, made["n_steps"], made["val_loss"], made["val_perplexity"])


@takes(TrainGptConfig)
def plan_gpt_training(config: TrainGptConfig) -> PlannedGpt:
    """Return what a run with these settings would do, without training or writing."""
    job = _Job(config)
    refuse_others(job.output, job.plan(), overwrite=config.overwrite)
    with torch.device("meta"):
        counts = count_parameters(job.new_model())
    n_steps = job.schedule.n_steps
    n_bytes = 4 * counts.total
    n_checkpoints = min(MOST_AT_ONCE, (n_steps - 1) // config.checkpoint_every)
    return PlannedGpt(
        job.output,
        counts,
        n_train_tokens=job.source.train.facts.n_tokens["train"],
        n_steps=n_steps,
        n_epochs=n_steps / steps_an_epoch(job.source, config.batch_size),
        bytes_to_write=n_bytes,
        checkpoint_bytes=n_checkpoints * _COPIES * n_bytes,
    )


def _train(job: _Job, checkpoints: Checkpoints, dataset: Staging) -> Run:
    """Train to the end, from the newest checkpoint on, and look at the validation loss now and then."""
    config, n_steps = job.config, job.schedule.n_steps
    run = job.new_run()
    state = checkpoints.load(overwrite=config.overwrite)
    if state is not None:
        run.restore(state)
        log.info("goes on from step %d of %d", run.step, n_steps)
    here = environment(job.device)
    if here not in run.made_on:
        run.made_on.append(here)
    _tell_size(run.model, job)
    start, first = time.monotonic(), run.step
    batches = training_batches(job.source, config, run.step)
    with (
        _few_threads(job),
        _curves(job, run.step) as draw,
        progress("training", total=n_steps - run.step, unit="step", quiet=config.quiet) as more,
    ):
        for loss in train(run, batches, job.schedule, job.device):
            draw.loss(run.step, loss, job.schedule.rate(run.step - 1))
            more(1, f"loss {loss:.3f}")
            is_last = run.step == n_steps
            if is_last or run.step % config.eval_every == 0:
                run.looks.append(_look(job, run, is_last=is_last))
                draw.look(run.looks[-1])
            if not is_last and run.step % config.checkpoint_every == 0:
                checkpoints.save(run.state())
    dataset.log({"steps": [first, run.step], "train_s": round(time.monotonic() - start, 3), **here})
    return run


def _look(job: _Job, run: Run, *, is_last: bool) -> Look:
    """Read the validation loss (of the whole split at the end) and sample some texts."""
    config, source = job.config, job.source
    val_loss = None
    if source.val is not None:
        most = None if is_last else config.eval_tokens
        batches = validation_batches(source.val, config.batch_size, most)
        val_loss = validation_loss(run.model, batches, job.device)
    texts = [
        source.tokenizer.decode(
            sample(
                *(run.model, source.prefix_ids, source.train.facts.eos_id),
                n_tokens=config.sample_tokens,
                most_positions=config.context,
                seed=seed,
            )
        )
        for seed in sample_seeds(config.seed, run.step, config.n_samples)
    ]
    seen = "" if val_loss is None else f", validation loss {val_loss:.3f} (perplexity {math.exp(val_loss):.1f})"
    log.info("step %d: loss %.3f%s; it writes: %s", run.step, run.losses[-1], seen, " ".join(texts[0].split()))
    return Look(run.step, val_loss, texts)


def _tell_size(model: Any, job: _Job) -> None:
    counts = count_parameters(model)
    log.info(
        "%s, %s: %s parameters, %s of them in embeddings, %s in blocks; %d steps, %.1f epochs",
        *(job.config.model_size, job.config.architecture),
        *(f"{count:,}" for count in counts),
        *(job.schedule.n_steps, job.schedule.n_steps / steps_an_epoch(job.source, job.config.batch_size)),
    )


def _few_threads(job: _Job) -> contextlib.AbstractContextManager[None]:
    is_small = job.config.model_size == "tiny" and job.device.type == "cpu"
    return one_thread() if is_small else contextlib.nullcontext()


class _Curves:
    """Draws losses, rate and samples in TensorBoard, beside the output: its files hold times."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def loss(self, step: int, loss: float, rate: float) -> None:
        if self._writer is not None:
            self._writer.add_scalar("loss/train", loss, step)
            self._writer.add_scalar("learning_rate", rate, step)

    def look(self, look: Look) -> None:
        if self._writer is not None:
            if look.val_loss is not None:
                self._writer.add_scalar("loss/validation", look.val_loss, look.step)
            for number, text in enumerate(look.samples):
                self._writer.add_text(f"sample/{number}", text, look.step)


@contextmanager
def _curves(job: _Job, first_step: int) -> Iterator[_Curves]:
    """Lend what draws; steps that were drawn before a stop are drawn again and replaced."""
    if not job.config.tensorboard:
        yield _Curves(None)
        return
    from torch.utils.tensorboard import SummaryWriter

    folder = job.output.with_name(job.output.name + ".tensorboard")
    with SummaryWriter(str(folder), purge_step=first_step + 1) as writer:
        yield _Curves(writer)
