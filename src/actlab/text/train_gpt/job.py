"""`actlab train-gpt`: from a token dataset to a model in Hugging Face format."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

import torch

from actlab.backends.devices import device_errors
from actlab.backends.gpt_trainer import SHAPES, Schedule, count_parameters, new_gpt, new_optimizer
from actlab.backends.models import environment, pick_device
from actlab.backends.threads import one_thread
from actlab.ground.integrity import read_sealed_as
from actlab.ground.job import Bar, Cost, DatasetJob, Done, Outcome, Worker, run_job
from actlab.ground.log import log
from actlab.ground.manifest import METADATA
from actlab.ground.options import identity_of, takes
from actlab.ground.progress import More
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import SINGLE, Plan, output_of
from actlab.text import kind  # noqa: F401  registers the kind
from actlab.text.train_gpt.checkpoints import MOST_AT_ONCE, Checkpoints
from actlab.text.train_gpt.compute import Look, Run, sample, train, validation_loss
from actlab.text.train_gpt.config import TrainGptConfig
from actlab.text.train_gpt.sink import KIND, gpt_files, metadata_of
from actlab.text.train_gpt.source import open_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROTARY_REACH = 4
"""A Llama's longest input, in training contexts: rotary positions go on past it, with worse predictions."""
_COPIES = 3
"""A checkpoint is so many times the model's size: AdamW keeps two means for every number."""


@dataclass(frozen=True, kw_only=True)
class TrainedGpt(Outcome):
    """What a run came to."""

    n_parameters: int
    n_steps: int
    val_loss: float | None
    """Nats a token of the whole validation split; None where nothing was held out."""
    val_perplexity: float | None

    def tell(self) -> None:
        """Log what the model came to on held-out text."""
        if self.val_perplexity is not None:
            log.info("validation loss %.3f nats a token, perplexity %.2f", self.val_loss, self.val_perplexity)


class Trained(TypedDict):
    """What a folder's `metadata.json` says of the training."""

    n_parameters: dict[str, int]
    n_steps: int
    val_loss: float | None
    val_perplexity: float | None


@takes(TrainGptConfig)
def train_gpt(config: TrainGptConfig) -> TrainedGpt:
    """Train a GPT on a token dataset and save it; `TrainGptConfig` has the settings.

    A model that is there with the same settings and tokens is left as it is; a training that was stopped goes
    on from its last checkpoint and comes to the same model.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how.
    """
    return run_job(jobs_of(config))


def jobs_of(config: TrainGptConfig) -> Iterator[list["TrainGptJob"]]:
    """Yield the one job: a model, to be trained."""
    yield [TrainGptJob(config)]


class TrainGptJob(DatasetJob[TrainedGpt]):
    """A model, to be trained on the tokens of a dataset."""

    config: TrainGptConfig

    def __init__(self, config: TrainGptConfig) -> None:
        super().__init__(config, output_of(config.output))
        self.source = open_source(config)
        self.device = pick_device(config.device)
        n_steps = self.source.n_steps
        self.schedule = Schedule(config.learning_rate, n_steps, round(config.warm_up * n_steps))
        self.n_epochs = n_steps / self.source.steps_an_epoch

    @cached_property
    def plan(self) -> Plan:
        """All that decides the model's bytes, on one kind of machine."""
        identity = identity_of(self.config) | {"n_steps": self.schedule.n_steps}
        return Plan(KIND, identity, self.source.inputs(), SINGLE)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Where the training is kept while it is under way."""
        return Checkpoints(self.output, self.plan.fingerprint)

    def new_model(self) -> "PreTrainedModel":
        """Make the untrained model."""
        config = self.config
        model: PreTrainedModel = new_gpt(
            *(config.architecture, SHAPES[config.model_size], self.source.vocabulary),
            max_positions=config.context * (_ROTARY_REACH if config.architecture == "llama" else 1),
            seed=config.seed,
        )
        return model

    def bar(self, units: object) -> Bar:
        """Count steps, those that a checkpoint spares among them."""
        return Bar("training", "step", self.schedule.n_steps)

    def open(self) -> AbstractContextManager[Worker]:
        """Lend the worker that trains."""
        return nullcontext(self.do_unit)

    def do_unit(self, _number: int, more: More) -> Done:
        """Train the model, and return its files."""
        here, start = environment(self.device), time.monotonic()
        with device_errors(self.device, if_out_of_memory="lower --batch-size or --context, or use --device cpu"):
            run = self._begun(here)
            first = run.step
            self._train(run, more)
        train_s = round(time.monotonic() - start, 3)
        record = {"metadata": metadata_of(run, self.source, self.plan), "made_on": run.made_on}
        return Done(
            gpt_files(run.model, self.source.tokenizer),
            record,
            lambda: {"steps": [first, run.step], "train_s": train_s, **here},
        )

    def _begun(self, here: dict[str, str]) -> Run:
        """Return the run at its start, or as the newest checkpoint has it."""
        config, model = self.config, self.new_model().to(self.device)
        run = Run(model, new_optimizer(model, weight_decay=config.weight_decay))
        state = self.checkpoints.load(overwrite=config.overwrite)
        if state is not None:
            run.restore(state)
            log.info("goes on from step %d of %d", run.step, self.schedule.n_steps)
        if here not in run.made_on:
            run.made_on.append(here)
        log.info(
            "%s, %s: %s parameters, %s of them in embeddings, %s in blocks; %d steps, %.1f epochs",
            *(config.model_size, config.architecture),
            *(f"{count:,}" for count in count_parameters(model)),
            *(self.schedule.n_steps, self.n_epochs),
        )
        return run

    def _train(self, run: Run, more: More) -> None:
        """Train to the end, and look at the validation loss now and then."""
        config, n_steps = self.config, self.schedule.n_steps
        is_small = config.model_size == "tiny" and self.device.type == "cpu"
        more(run.step)
        with one_thread() if is_small else nullcontext(), self._curves(run.step) as draw:
            for loss in train(run, self.source.training_batches(run.step), self.schedule, self.device):
                draw(run.step, {"loss/train": loss, "learning_rate": self.schedule.rate(run.step - 1)}, ())
                more(1, f"loss {loss:.3f}")
                is_last = run.step == n_steps
                if is_last or run.step % config.eval_every == 0:
                    look = self._look(run, is_last=is_last)
                    run.looks.append(look)
                    draw(run.step, {"loss/validation": look.val_loss}, look.samples)
                if not is_last and run.step % config.checkpoint_every == 0:
                    self.checkpoints.save(run.state())

    def _look(self, run: Run, *, is_last: bool) -> Look:
        """Read the validation loss (of the whole split at the end) and sample some texts."""
        config, source = self.config, self.source
        val_loss = None
        if source.val is not None:
            batches = source.validation_batches(source.val, None if is_last else config.eval_tokens)
            val_loss = validation_loss(run.model, batches, self.device)
        texts = [
            str(
                source.tokenizer.decode(
                    sample(
                        *(run.model, source.prefix_ids, source.train.facts.eos_id),
                        n_tokens=config.sample_tokens,
                        most_positions=config.context,
                        seed=derive_seed(config.seed, "sample", run.step, number),
                    )
                )
            )
            for number in range(config.n_samples)
        ]
        seen = "" if val_loss is None else f", validation loss {val_loss:.3f} (perplexity {math.exp(val_loss):.1f})"
        log.info("step %d: loss %.3f%s; it writes: %s", run.step, run.losses[-1], seen, " ".join(texts[0].split()))
        return Look(run.step, val_loss, texts)

    @contextmanager
    def _curves(self, first_step: int) -> Iterator[Callable[[int, Mapping[str, float | None], Sequence[str]], None]]:
        """Lend what draws numbers and texts in TensorBoard, beside the output: its files hold times.

        Steps that were drawn before a stop are drawn again and replaced.
        """
        if not self.config.tensorboard:
            yield lambda _step, _numbers, _texts: None
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(f"{self.output}.tensorboard", purge_step=first_step + 1) as writer:

            def draw(step: int, numbers: Mapping[str, float | None], texts: Sequence[str]) -> None:
                for name, value in numbers.items():
                    if value is not None:
                        writer.add_scalar(name, value, step)
                for number, text in enumerate(texts):
                    writer.add_text(f"sample/{number}", text, step)

            yield draw

    def after(self) -> None:
        """Remove the checkpoints: the model is there, made by this run or found."""
        self.checkpoints.remove()

    def outcome(self) -> TrainedGpt:
        """Return what the model came to, by its metadata."""
        made = read_sealed_as(self.output / METADATA, Trained)
        return TrainedGpt(
            path=self.output,
            n_parameters=made["n_parameters"]["total"],
            n_steps=made["n_steps"],
            val_loss=made["val_loss"],
            val_perplexity=made["val_perplexity"],
        )

    def cost(self) -> Cost:
        """Count parameters, steps and checkpoints; they lie there at a time, and are gone in the end."""
        with torch.device("meta"):
            counts = count_parameters(self.new_model())
        n_steps, n_train_tokens = self.schedule.n_steps, self.source.train.facts.n_tokens["train"]
        n_checkpoints = min(MOST_AT_ONCE, (n_steps - 1) // self.config.checkpoint_every)
        n_bytes = 4 * counts.total
        checkpoint_bytes = n_checkpoints * _COPIES * n_bytes
        return Cost(
            path=self.output,
            bytes_to_write=n_bytes,
            notes=(
                f"{counts.total:,} parameters: {counts.embeddings:,} in embeddings, {counts.blocks:,} in blocks",
                f"{n_steps} steps, {self.n_epochs:.1f} epochs of {n_train_tokens} tokens",
                f"up to {checkpoint_bytes / 1e6:.1f} MB of checkpoints while it trains",
            ),
            details={
                "parameters": counts,
                "n_train_tokens": n_train_tokens,
                "n_steps": n_steps,
                "n_epochs": self.n_epochs,
                "checkpoint_bytes": checkpoint_bytes,
            },
        )
