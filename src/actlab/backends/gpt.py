"""Small causal language models trained here: the trainer, and the recipe of `actlab/tiny`."""

import dataclasses
import hashlib
import importlib.resources
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actlab.backends.quiet import quiet_transformers
from actlab.backends.threads import one_thread
from actlab.ground.errors import StorageError
from actlab.ground.manifest import fingerprint
from actlab.ground.progress import progress
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import Lock, storage_errors

log = logging.getLogger("actlab")

TINY = "actlab/tiny"
BOS = "<|bos|>"
EOS = "<|eos|>"


@dataclass(frozen=True)
class Recipe:
    """How a small model is shaped and trained. `actlab/tiny` is the default one."""

    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    context: int = 128
    """Tokens in a training window."""
    batch_size: int = 8
    n_steps: int = 400
    learning_rate: float = 3e-3
    seed: int = 0


def tiny_folder(cache: Path | None = None, recipe: Recipe | None = None) -> Path:
    """Return the folder of `actlab/tiny`, trained now if it is not in the cache.

    The model is a Llama of about a million parameters with a byte-level BPE tokenizer, trained on the text
    that ships with actlab, from a fixed seed.

    Raises:
        StorageError: The cache folder cannot be written.
    """
    recipe = recipe or Recipe()
    corpus = importlib.resources.files("actlab.backends").joinpath("tiny_corpus.txt").read_text("utf-8")
    text_hash = hashlib.sha256(corpus.encode()).hexdigest()
    name = "tiny-" + fingerprint([dataclasses.asdict(recipe), text_hash])[:12]
    folder = (cache or cache_folder()) / name
    if (folder / "config.json").is_file():
        return folder
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with Lock(folder.with_name(name + ".lock")) as lock:
        if not lock.try_acquire():
            raise StorageError(f"another run is training {TINY} in {folder}", hint="wait a minute and run again")
        if (folder / "config.json").is_file():
            return folder
        log.info("training %s once (about a minute), to be kept in %s", TINY, folder)
        temporary = folder.with_name(f".tmp-{name}")
        shutil.rmtree(temporary, ignore_errors=True)
        documents = [document for document in corpus.split("\n\n") if document.strip()]
        with storage_errors(folder):
            train_folder(documents, recipe, temporary)
            os.rename(temporary, folder)
        lock.remove()
    return folder


def cache_folder() -> Path:
    """Return actlab's folder for what can be made again: `$ACTLAB_CACHE`, or one in the user's cache."""
    chosen = os.environ.get("ACTLAB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actlab"


def train_folder(documents: Sequence[str], recipe: Recipe, folder: Path) -> None:
    """Train a tokenizer and a model on documents and save both in Hugging Face format."""
    tokenizer = train_tokenizer(documents, recipe)
    ids = [tokenizer(document)["input_ids"] + [tokenizer.eos_token_id] for document in documents]
    stream = torch.tensor([one for document in ids for one in document])
    model = new_model(recipe, tokenizer)
    with progress(f"training {TINY}", total=recipe.n_steps, unit="step") as more, one_thread():
        train(model, stream, recipe, on_step=lambda step, loss: more(1))
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def train_tokenizer(documents: Iterable[str], recipe: Recipe) -> Any:
    """Train a byte-level BPE tokenizer that puts one BOS before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=recipe.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """Make an untrained Llama of the recipe's shape, its weights drawn from the recipe's seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        num_key_value_heads=recipe.num_attention_heads,
        max_position_embeddings=recipe.max_position_embeddings,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        return LlamaForCausalLM(config)


def train(
    model: nn.Module,
    stream: Tensor,
    recipe: Recipe,
    on_step: Callable[[int, float], None],
) -> None:
    """Train a causal language model on random windows of a token stream, in place.

    AdamW, a linear warm-up over a tenth of the steps, then a cosine to a tenth of the rate.
    `on_step` is told each step's number and loss (nats a token).
    """
    draw = torch.Generator().manual_seed(derive_seed(recipe.seed, "windows"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.05)
    warm_up = max(1, recipe.n_steps // 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, max(1, recipe.n_steps - warm_up), recipe.learning_rate / 10
            ),
        ],
        [warm_up],
    )
    offsets = torch.arange(recipe.context)
    model.train()
    for step in range(recipe.n_steps):
        starts = torch.randint(len(stream) - recipe.context + 1, (recipe.batch_size, 1), generator=draw)
        window_bt = stream[starts + offsets]
        loss = model(input_ids=window_bt, labels=window_bt, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    model.eval()
