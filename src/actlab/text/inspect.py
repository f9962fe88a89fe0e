"""`show` and `verify` of what the commands of text write, and `show` of a grammar."""

# t token, n document

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from torch import nn

from actlab.backends.gpt_trainer import count_parameters
from actlab.backends.quiet import quiet_transformers
from actlab.backends.token_count import TokenCounter, find_tokenizer, tokenizer_sha256, vocab_size_of
from actlab.formats.documents import read_documents
from actlab.formats.tokens import KIND as TOKENS
from actlab.formats.tokens import SPLITS, TOKENIZER, map_ends, map_tokens, read_token_folder, refuse_strange_ids
from actlab.ground.errors import ConfigError, StorageError, did_you_mean, foreign_errors
from actlab.ground.integrity import read_sealed_as
from actlab.ground.manifest import METADATA, Manifest
from actlab.ground.options import as_path
from actlab.ground.progress import progress
from actlab.ground.verify import sizes_of
from actlab.text.domains import AUTO, DOMAINS, domains
from actlab.text.generate.config import TARGETS, GenerateTextConfig
from actlab.text.generate.source import Source
from actlab.text.refine.sink import QUALITY_NAME, REJECTS_NAME
from actlab.text.templates.plan import documents_needed, expected_duplicates
from actlab.text.words import text_hash

Problems = Iterator[str]


class _Metadata(TypedDict):
    kind: str
    n_documents: NotRequired[int]
    n_parameters: NotRequired[dict[str, int]]
    mean_score: NotRequired[float | None]


_NO_PROMPT = "a"
"""A prompt that favours nothing: a value is named by a word of more than two letters."""
_MEAN_TOLERANCE = 1e-6
"""A mean score is written with six decimals."""


def show_text(folder: Path) -> dict[str, object]:
    """Return a description of a dataset of text, of tokens, or of a trained GPT, as JSON.

    Raises:
        ActlabError: It is none, or damaged.
    """
    metadata = read_sealed_as(folder / METADATA, _Metadata)
    if metadata["kind"] == TOKENS:
        read_token_folder(folder)
    told = {key: value for key, value in metadata.items() if not key.startswith("curve")}
    return {"path": str(folder), "kind": metadata["kind"], **sizes_of(folder), **told}


def grammar_file(name: str) -> Path:
    """Return the file of a grammar that a user names: a YAML file, or the domain of one that ships.

    Raises:
        ConfigError: There is none.
    """
    path = as_path(name)
    if path.is_file():
        return path
    if name not in DOMAINS.names or name == AUTO.name:
        hint = did_you_mean(name, domains(), otherwise=f"name a YAML file, or one of {', '.join(domains())}")
        raise ConfigError(f"there is no grammar {name}", hint=hint)
    return DOMAINS[name].grammar


def show_grammar(path: str | Path) -> dict[str, object]:
    """Return what a grammar can say, calculated exactly, and what generate-text could make of it, as JSON.

    Tokens are words times the tokens a word that a sample of the grammar's text has with the tokenizer that
    generate-text would train on it.

    Raises:
        DataError: It is no grammar; the message names what is wrong.
    """
    file = grammar_file(str(path))
    source = Source(GenerateTextConfig(prompt=_NO_PROMPT, output=Path(), grammar=file))
    grammar, facts = source.grammar, source.facts
    described: dict[str, object] = {
        "path": str(file),
        "kind": "grammar",
        "domain": grammar.domain,
        "n_skeletons": facts.n_skeletons,
        "n_combinations": facts.n_combinations,
        "language_size": facts.language_size,
        "parameters": {name: len(values.rows) for name, values in grammar.parameters.items()},
        "variables": {name: len(values.rows) for name, values in grammar.variables.items()},
        "pools": {name: len(values) for name, values in grammar.pools.items()},
        "n_symbols": len(grammar.symbols),
        "expected_words": round(facts.expected_words, 3),
        "tokens_per_word": round(source.tokens_per_word, 3),
        "expected_tokens": round(facts.expected_words * source.tokens_per_word, 3),
    }
    for target in TARGETS.values():
        n = documents_needed(facts, target, source.tokens_per_word)
        repeats = expected_duplicates(facts, n)
        described[f"at_{target}_tokens"] = {
            "n_documents": n,
            "expected_duplicates": float(f"{repeats:.3g}"),
            "share": float(f"{repeats / n:.3g}"),
        }
    return described


def check_documents(folder: Path, _manifest: Manifest, quiet: bool) -> Problems:
    """Read every document, and count it again where the tokenizer that counted it is there."""
    metadata = read_sealed_as(folder / METADATA, _Metadata)
    is_refined = (folder / QUALITY_NAME).is_file()
    counter = None if is_refined else TokenCounter(find_tokenizer(str((folder / TOKENIZER).absolute())))
    ids: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    hashes: list[str] = []
    n_tokens = 0
    with progress("reading", total=metadata.get("n_documents", 0), unit="document", quiet=quiet) as more:
        for document in read_documents(folder):
            ids[document.id] += 1
            sources[document.source] += 1
            hashes.append(text_hash(document.text))
            n_tokens += document.n_tokens
            if counter is not None and (counted := counter.count(document.text)) != document.n_tokens:
                yield f"document {document.id} has {counted} tokens, and says {document.n_tokens}"
            more(1)
    if n_twice := len(hashes) - len(set(hashes)):
        yield f"{n_twice} documents repeat the text of another"
    yield from _differing(metadata, {"n_documents": len(hashes), "n_tokens": n_tokens})
    if is_refined:
        yield from _check_refinement(folder, metadata, hashes)
        return
    yield from (f"the id {id_} comes {n} times" for id_, n in ids.items() if n > 1)
    yield from _differing(metadata, {"sources": dict(sources)})
    yield from _check_tokenizer(folder / TOKENIZER, metadata)


def _check_tokenizer(folder: Path, metadata: Mapping[str, object]) -> Problems:
    tokenizer = find_tokenizer(str(folder.absolute()))
    if tokenizer_sha256(tokenizer) != metadata.get("tokenizer_sha256"):
        yield "the tokenizer is not the one that metadata.json names"
    if (size := vocab_size_of(tokenizer)) != metadata.get("vocab_size"):
        yield f"the tokenizer has {size} tokens, metadata.json says {metadata.get('vocab_size')}"


def _check_refinement(folder: Path, metadata: _Metadata, hashes: list[str]) -> Problems:
    """Compare the table of scores and the rejects with the documents that were chosen."""
    rows = pq.read_table(folder / QUALITY_NAME).to_pylist()
    chosen = sorted((row for row in rows if row["rank"] is not None), key=lambda row: row["rank"])
    if [(row["rank"], row["hash"]) for row in chosen] != list(enumerate(hashes, start=1)):
        yield f"{QUALITY_NAME}: its ranks are not the lines of documents.jsonl"
    if not all(0 <= row["score"] <= 1 for row in rows):
        yield f"{QUALITY_NAME}: a score is not from 0 to 1"
    mean = sum(row["score"] for row in chosen) / max(1, len(chosen))
    if not math.isclose(mean, metadata.get("mean_score") or 0.0, rel_tol=0, abs_tol=_MEAN_TOLERANCE):
        yield f"the mean score is {mean:.6f}, metadata.json says {metadata.get('mean_score')}"
    with (
        foreign_errors(f"{REJECTS_NAME} cannot be read", hint="was it edited by hand?", kind=StorageError),
        (folder / REJECTS_NAME).open("rb") as lines,
    ):
        reasons = Counter(str(json.loads(line)["reason"]) for line in lines)
    yield from _differing(metadata, {"n_rejects": dict(reasons)})


def _differing(metadata: Mapping[str, object], found: Mapping[str, object]) -> Problems:
    for name, value in found.items():
        if metadata.get(name) != value:
            yield f"{name} is {value}, metadata.json says {metadata.get(name)}"


def check_tokens(folder: Path, _manifest: Manifest, _quiet: bool) -> Problems:
    """Read both streams: sizes, ids, ends, the marks around documents, and that no document is on both sides."""
    facts = read_token_folder(folder)
    seen: dict[str, set[bytes]] = {}
    for split in SPLITS:
        refuse_strange_ids(folder, facts, split)
        tokens_t, ends_n = map_tokens(folder, facts, split), map_ends(folder, split).astype(np.int64)
        starts_n = np.concatenate([np.zeros(1, np.int64), ends_n])[:-1]
        begins = all((tokens_t[starts_n + i] == one).all() for i, one in enumerate(facts.prefix_ids))
        is_end_t = tokens_t == facts.eos_id
        if not begins or not is_end_t[ends_n - 1].all():
            yield f"{split}: a document does not stand between the tokenizer's marks"
        if n_within := int(is_end_t.sum()) - len(ends_n):
            yield f"{split}: {n_within} end markers more than documents"
        pairs = zip(starts_n.tolist(), ends_n.tolist(), strict=True)
        seen[split] = {tokens_t[start:end].tobytes() for start, end in pairs}
    if n_shared := len(seen["train"] & seen["val"]):
        yield f"{n_shared} documents are both in train and in val"
    yield from _check_tokenizer(folder / TOKENIZER, read_sealed_as(folder / METADATA, _Metadata))


def check_gpt(folder: Path, _manifest: Manifest, _quiet: bool) -> Problems:
    """Open the weights: finite numbers, and those of the model that the config describes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    metadata = read_sealed_as(folder / METADATA, _Metadata)
    hint = "train it again, with --overwrite"
    shapes: dict[str, tuple[int, ...]] = {}
    with (
        foreign_errors("model.safetensors cannot be read", hint=hint),
        safe_open(folder / "model.safetensors", framework="pt") as weights,
    ):
        for name in weights.keys():  # noqa: SIM118 (it is no mapping)
            tensor = weights.get_tensor(name)
            shapes[name] = tuple(tensor.shape)
            if not torch.isfinite(tensor).all():
                yield f"model.safetensors: {name} has numbers that are not finite"
    with foreign_errors("config.json describes no model", hint=hint), torch.device("meta"), quiet_transformers():
        model: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    strange = sorted(name for name, shape in shapes.items() if expected.get(name) != shape)
    yield from (f"model.safetensors: {name} is not the model's that config.json describes" for name in strange)
    yield from _differing(metadata, {"n_parameters": count_parameters(model)._asdict()})
    n_stored = sum(map(math.prod, shapes.values()))
    if n_stored != (total := metadata.get("n_parameters", {}).get("total")):
        yield f"model.safetensors has {n_stored} numbers, metadata.json says {total}"
    yield from _check_tokenizer(folder, metadata)
