"""`actlab/tiny`: a small GPT for trying things without a network, trained here when it is first wanted."""

# b window, t token

import contextlib
import dataclasses
import hashlib
import importlib.resources
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from actlab.backends.bpe import BOS, EOS, VOCAB_SIZE, train_tokenizer
from actlab.backends.gpt_trainer import SHAPES, Schedule, Shape, Vocabulary, new_gpt, new_optimizer, train_step
from actlab.backends.quiet import quiet_transformers
from actlab.backends.threads import one_thread
from actlab.backends.tokenizers import FastTokenizer
from actlab.ground.cache import cache_folder
from actlab.ground.errors import StorageError
from actlab.ground.hashes import sha256_of
from actlab.ground.log import log
from actlab.ground.manifest import fingerprint
from actlab.ground.progress import progress
from actlab.ground.seeds import derive_seed
from actlab.ground.storage import Lock, storage_errors, write_file

TINY = "actlab/tiny"
_TEXT = "tiny_text.jsonl"
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Recipe:
    """How the model is shaped and trained, by the steps that `train-gpt` takes."""

    vocab_size: int = VOCAB_SIZE
    shape: Shape = SHAPES["tiny"]
    max_positions: int = 512
    context: int = 128
    """Tokens in a training window."""
    batch_size: int = 4
    """Twice the steps of half the size learn far more in the same time (perplexity 9 against 23 on new text)."""
    n_steps: int = 800
    n_warm_up: int = 80
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 0


def tiny_folder(cache: Path | None = None, recipe: Recipe | None = None) -> Path:
    """Return the folder of `actlab/tiny`, trained now if it is not in the cache, or not as it was made.

    The model is a Llama of about a million parameters with a byte-level BPE tokenizer, trained from a fixed
    seed on the text that ships with actlab, which `actlab generate-text` made (`scripts/tiny_text.py`).
    The hashes of its files lie beside its folder, in NAME.sha256, and are compared each time. A model without them,
    which an earlier version made, is used as it is: trained again it may come out another, as with another torch.

    Raises:
        StorageError: The cache folder cannot be written.
    """
    recipe = recipe or Recipe()
    text = importlib.resources.files("actlab.backends").joinpath(_TEXT).read_bytes()
    name = "tiny-" + fingerprint([dataclasses.asdict(recipe), hashlib.sha256(text).hexdigest()])[:12]
    folder = (cache or cache_folder()) / name
    if not _sums_of(folder).exists() and all((folder / name).is_file() for name in _NEEDED):
        _record_as_it_is(folder)
        return folder
    if (wrong := _wrong(folder)) is None:
        return folder
    hint = "set $ACTLAB_CACHE to a folder that you may write to"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the cache folder {folder.parent}: {error.strerror}", hint=hint) from error
    if not os.access(folder.parent, os.W_OK):
        raise StorageError(f"{folder} {wrong}, and cannot be made there", hint=hint)
    with Lock(folder.with_name(name + ".lock")) as lock:
        if not lock.try_acquire():
            raise StorageError(f"another run is training {TINY} in {folder}", hint="wait a minute and run again")
        if (wrong := _wrong(folder)) is None:
            return folder
        if folder.exists():
            log.warning("%s %s: it is trained again", folder, wrong)
        log.info("training %s once (about a minute), to be kept in %s", TINY, folder)
        temporary = folder.with_name(f".tmp-{name}" if lock.is_real else f".tmp-{secrets.token_hex(4)}-{name}")
        shutil.rmtree(temporary, ignore_errors=True)
        with storage_errors(folder):
            _train_folder([json.loads(line) for line in text.splitlines()], recipe, temporary)
            if folder.exists():
                shutil.rmtree(folder)
            write_file(_sums_of(folder), _sums(temporary))
            os.rename(temporary, folder)
        lock.remove()
    return folder


def _sums_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".sha256")


def _record_as_it_is(folder: Path) -> None:
    """Write the record of a model that has none, where that can be done, and say that it was not compared."""
    log.warning("%s has no record of its files' hashes: it is used as it is, unchecked", folder)
    if os.access(folder.parent, os.W_OK):
        with contextlib.suppress(StorageError):
            write_file(_sums_of(folder), _sums(folder))


def _sums(folder: Path) -> bytes:
    """Return the hashes of a folder's files, as sha256sum writes and checks them from inside it."""
    return "".join(f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.iterdir())).encode()


def _wrong(folder: Path) -> str | None:
    """Return what is wrong with a model in the cache; None where its files are those that were made."""
    if not (folder / "config.json").is_file():
        return "is not there, or not whole"
    try:
        lines = _sums_of(folder).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return "has no record of its files' hashes"
    written = {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
    for name, sha256 in written.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            return f"is damaged: {name} is not as it was made"
    return None if "config.json" in written else "has no record of its files' hashes"


def _train_folder(documents: Sequence[str], recipe: Recipe, folder: Path) -> None:
    """Train a tokenizer and a model on documents and save both in Hugging Face format."""
    tokenizer = train_tokenizer(documents, recipe.vocab_size)
    ids = tokenizer.get_vocab()
    vocabulary = Vocabulary(len(tokenizer), ids[BOS], ids[EOS])
    model = new_gpt("llama", recipe.shape, vocabulary, max_positions=recipe.max_positions, seed=recipe.seed)
    optimizer = new_optimizer(model, weight_decay=recipe.weight_decay)
    schedule = Schedule(recipe.learning_rate, recipe.n_steps, recipe.n_warm_up)
    with progress(f"training {TINY}", total=recipe.n_steps, unit="step") as more, one_thread():
        for step, window_bt in zip(range(recipe.n_steps), _windows(documents, tokenizer, recipe), strict=False):
            loss = train_step(model, optimizer, window_bt[:, :-1], window_bt[:, 1:], rate=schedule.rate(step))
            more(1, f"loss {loss:.3f}")
    with quiet_transformers():
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _windows(documents: Sequence[str], tokenizer: FastTokenizer, recipe: Recipe) -> Iterator[Int64[Tensor, "b t"]]:
    """Yield batches without end: in every epoch each stretch of the documents' stream once, in another order."""
    texts = tokenizer(list(documents))["input_ids"]
    stream_t = torch.tensor([one for text in texts for one in [*text, tokenizer.eos_token_id]])
    draw = torch.Generator().manual_seed(derive_seed(recipe.seed, "windows"))
    offsets = torch.arange(recipe.context + 1)
    while True:
        phase = int(torch.randint(recipe.context, (1,), generator=draw))
        starts = torch.arange(phase, len(stream_t) - recipe.context, recipe.context)
        for some in torch.split(starts[torch.randperm(len(starts), generator=draw)], recipe.batch_size):
            yield stream_t[some[:, None] + offsets]
