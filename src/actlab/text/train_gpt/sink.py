"""The files of a trained GPT, and what is told of it."""

import math
from collections.abc import Iterator
from itertools import starmap
from typing import TYPE_CHECKING

from actlab.backends.gpt_trainer import count_parameters
from actlab.backends.quiet import quiet_transformers
from actlab.backends.token_count import saved_tokenizer
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.manifest import METADATA
from actlab.ground.storage import FORMAT_VERSION, Finish, NewFile, Plan, Staging
from actlab.ground.temporary import saved_files
from actlab.text.train_gpt.compute import Run
from actlab.text.train_gpt.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KIND = "gpt"


def gpt_files(model: "PreTrainedModel", tokenizer: FastTokenizer) -> Iterator[NewFile]:
    """Yield a model's and its tokenizer's files, as transformers' `from_pretrained` reads them."""
    with quiet_transformers():
        yield from starmap(NewFile, saved_files(model.eval().save_pretrained))
    tokenizer.model_max_length = model.config.max_position_embeddings
    yield from starmap(NewFile, saved_tokenizer(tokenizer).items())


def metadata_of(run: Run, source: Source, plan: Plan) -> dict[str, object]:
    """Return the folder's `metadata.json`: what was trained, on what, and what came of it."""
    last = run.looks[-1]
    facts = source.train.facts
    return {
        "model_size": source.config.model_size,
        "architecture": source.config.architecture,
        "n_parameters": count_parameters(run.model)._asdict(),
        "n_steps": run.step,
        "n_epochs": round(run.step / source.steps_an_epoch, 3),
        "n_train_tokens": facts.n_tokens["train"],
        "n_val_tokens": facts.n_tokens["val"],
        "vocab_size": facts.vocab_size,
        "tokenizer_sha256": facts.tokenizer_sha256,
        "val_loss": last.val_loss,
        "val_perplexity": None if last.val_loss is None else math.exp(last.val_loss),
        "curve_columns": ["step", "train_loss", "val_loss"],
        "curve": list(run.curve()),
        "samples": last.samples,
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
    }


def finish(staging: Staging) -> Finish:
    """Return the folder's metadata, and the kinds of machine that trained the model."""
    (record,) = staging.records()
    return Finish([], {METADATA: record["metadata"]}, {"made_on": record["made_on"]})
