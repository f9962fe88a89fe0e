"""What text costs: counting tokens and reading windows, each against the plain way.

    python scripts/bench/text.py [--rounds 5] [--only counting,batches]

counting   tokens of 20,000 sentences: `tokenizer.encode` for each, `encode_batch`, and actlab's counter, which
           starts with nothing remembered in every round.
generation template documents with their tokens counted, against an `encode` for each sentence.
refinement near duplicates of 4,000 documents, against datasketch where it is installed; and refinement as a whole.
batches    input and target of 32 windows of 256 tokens, from 20 million: a dataset over a list with the default
           collate, one over a memory map with the default collate, nanoGPT's formula, and `TextDataset`.

All run in this process, in turn, on one thread; CPU seconds; ratios within a round, the median over the rounds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.resources
import importlib.util
import itertools
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from actlab.backends.token_count import TokenCounter, find_tokenizer
from actlab.ground.options import from_settings
from actlab.text.dataset import EpochSampler, TextDataset
from actlab.text.generate.config import GenerateTextConfig
from actlab.text.generate.source import Source
from actlab.text.near_duplicates import near_duplicates
from actlab.text.refine.compute.verdicts import Settings, refine_documents

Way = Callable[[], int]
"""Does the work once and returns how many tokens it handled."""

CONTEXT, BATCH = 256, 32
N_TOKENS, N_BATCHES = 20_000_000, 200
N_LIST_BATCHES = 20
"""The list is so slow that fewer batches tell as much."""


def sentences(n: int) -> list[str]:
    """Sentences of the text that ships with actlab, over and over."""
    lines = importlib.resources.files("actlab.backends").joinpath("tiny_text.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line) for line in lines]
    found = [one.strip() for text in texts for one in re.split(r"(?<=[.?!])\s+", text) if one.strip()]
    return [found[k % len(found)] for k in range(n)]


@contextmanager
def counting() -> Iterator[dict[str, Way]]:
    texts = sentences(20_000)
    tokenizer = find_tokenizer("actlab/tiny")

    def in_batches() -> int:
        some = (texts[start : start + 64] for start in range(0, len(texts), 64))
        return sum(len(ids) for part in some for ids in tokenizer(part, add_special_tokens=False)["input_ids"])

    def ours() -> int:
        counter = TokenCounter(tokenizer)
        return sum(map(counter.count, texts))

    yield {
        "tokenizer.encode": lambda: sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts),
        "tokenizer(batch)": in_batches,
        "TokenCounter": ours,
        "TokenCounter, ids": lambda: sum(map(len, TokenCounter(tokenizer).ids_of(texts))),
    }


class ListDataset(Dataset):
    """The plain way: the whole stream as a list, a tensor made for each window."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return (len(self.ids) - 1) // CONTEXT

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        window = self.ids[index * CONTEXT : (index + 1) * CONTEXT + 1]
        return torch.tensor(window[:-1]), torch.tensor(window[1:])


class MappedDataset(Dataset):
    """The usual way: one slice of a memory map for each window."""

    def __init__(self, path: Path) -> None:
        self.ids = np.memmap(path, dtype=np.uint16, mode="r")

    def __len__(self) -> int:
        return (len(self.ids) - 1) // CONTEXT

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        window = torch.from_numpy(self.ids[index * CONTEXT : (index + 1) * CONTEXT + 1].astype(np.int64))
        return window[:-1], window[1:]


@contextmanager
def batches() -> Iterator[dict[str, Way]]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_tokens(Path(temporary), rng)
        path = folder / "train.bin"
        ours = TextDataset(folder, context=CONTEXT)
        listed = ListDataset(np.fromfile(path, "<u2").tolist())
        mapped = MappedDataset(path)
        yield {
            "list, default collate": lambda: read(listed, EpochSampler(ours, BATCH), N_LIST_BATCHES),
            "map, default collate": lambda: read(mapped, EpochSampler(ours, BATCH), N_BATCHES),
            "nanoGPT": lambda: by_random_offsets(path),
            "TextDataset": lambda: directly(ours),
            "TextDataset in DataLoader": lambda: by_loader(ours),
        }


def write_tokens(folder: Path, rng: np.random.Generator) -> Path:
    """Write a token dataset of 20 million random ids."""
    rng.integers(0, 50_000, N_TOKENS).astype("<u2").tofile(folder / "train.bin")
    np.arange(500, N_TOKENS + 1, 500).astype("<u8").tofile(folder / "train.idx")
    (folder / "val.bin").touch()
    (folder / "val.idx").touch()
    counts = {"n_tokens": {"train": N_TOKENS, "val": 0}, "n_docs": {"train": N_TOKENS // 500, "val": 0}}
    marks = {"version": 1, "dtype": "uint16", "vocab_size": 50_000, "eos_id": 0, "prefix_ids": [], "kind": "tokens"}
    hashes = {"tokenizer_sha256": "", "text_sha256": ""}
    (folder / "metadata.json").write_text(json.dumps(marks | counts | hashes))
    return folder


def read(dataset: Dataset, sampler: EpochSampler, n_batches: int) -> int:
    n = 0
    for _, indices in zip(range(n_batches), sampler, strict=False):
        given, _ = default_collate([dataset[index % len(dataset)] for index in indices])
        n += given.numel()
    return n


def by_random_offsets(path: Path) -> int:
    """nanoGPT's `get_batch`, which maps the file anew each time."""
    n = 0
    for _ in range(N_BATCHES):
        data = np.memmap(path, dtype=np.uint16, mode="r")
        ix = torch.randint(len(data) - CONTEXT, (BATCH,))
        x = torch.stack([torch.from_numpy(data[i : i + CONTEXT].astype(np.int64)) for i in ix])
        torch.stack([torch.from_numpy(data[i + 1 : i + 1 + CONTEXT].astype(np.int64)) for i in ix])
        n += x.numel()
    return n


def directly(dataset: TextDataset) -> int:
    order = EpochSampler(dataset, BATCH)
    return sum(dataset.batch(indices).input.numel() for _, indices in zip(range(N_BATCHES), order, strict=False))


def by_loader(dataset: TextDataset) -> int:
    from actlab.text.dataset import whole

    loader = DataLoader(dataset, batch_sampler=EpochSampler(dataset, BATCH), collate_fn=whole)
    return sum(batch.input.numel() for _, batch in zip(range(N_BATCHES), loader, strict=False))


@contextmanager
def generation() -> Iterator[dict[str, Way]]:
    """Template documents, counted: a sentence at a time by the tokenizer, and as generate-text does."""
    source = Source(from_settings(GenerateTextConfig, {"prompt": "simple recipes", "output": "unused"}))
    tokenizer, n_documents = source.tokenizer, 2000

    def plain() -> int:
        total = 0
        for k in range(n_documents):
            for sentence in re.split(r"(?<=[.?!])\s+", source.compiled.generate(0, k).text):
                total += len(tokenizer.encode(sentence, add_special_tokens=False))
        return total

    def ours() -> int:
        source.__dict__.pop("counter", None)  # nothing is remembered at the start
        return sum(document.n_tokens for document in itertools.islice(source.templates(), n_documents))

    yield {"per-sentence encode": plain, "generate-text": ours}


@contextmanager
def refinement() -> Iterator[dict[str, Way]]:
    """Near duplicates: MinHash by datasketch, where it is installed, and ours; then all of refinement."""
    source = Source(from_settings(GenerateTextConfig, {"prompt": "simple recipes", "output": "unused"}))
    documents = list(itertools.islice(source.templates(), 4000))
    texts, n_tokens = [one.text for one in documents], sum(one.n_tokens for one in documents)

    def by_datasketch() -> int:
        from datasketch import MinHash, MinHashLSH

        index = MinHashLSH(threshold=0.7, num_perm=112)
        for number, text in enumerate(texts):
            one = MinHash(num_perm=112)
            words = text.lower().split()
            one.update_batch([" ".join(words[k : k + 3]).encode() for k in range(len(words) - 2)])
            index.query(one)
            index.insert(str(number), one)
        return n_tokens

    def ours() -> int:
        near_duplicates(texts, 0.7)
        return n_tokens

    def whole() -> int:
        refine_documents(documents, Settings(tokens=n_tokens // 2))
        return n_tokens

    ways: dict[str, Way] = {"near duplicates": ours, "all of refine-text": whole}
    if importlib.util.find_spec("datasketch"):
        ways = {"datasketch": by_datasketch, **ways}
    yield ways


PARTS = {"counting": counting, "batches": batches, "generation": generation, "refinement": refinement}
BASELINES = {
    "generation": ["per-sentence encode"],
    "refinement": ["datasketch"],
    "counting": ["tokenizer.encode"],
    "batches": ["list, default collate", "map, default collate", "nanoGPT"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.only.split(","):
        with PARTS[name]() as ways:
            per_s = measure(ways, args.rounds)
        print(f"\n{name}: tokens a CPU second, median of {args.rounds} rounds")
        for way, rates in per_s.items():
            ratios = [
                f"{statistics.median(map(lambda own, base: own / base, rates, per_s[base])):.1f}x {base}"
                for base in BASELINES[name]
                if base != way and base in per_s
            ]
            print(f"  {way:28} {statistics.median(rates) / 1e6:8.2f} M   {', '.join(ratios)}")


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Return each way's tokens a CPU second in each round; a round before them warms the caches."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            start = time.process_time()
            n = work()
            if number:
                found[way].append(n / (time.process_time() - start))
    return found


if __name__ == "__main__":
    main()
