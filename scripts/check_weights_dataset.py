"""Check a dataset of subject networks' weights without the program that made it.

python scripts/check_weights_dataset.py DIR [--fresh 600] [--fresh-share 0.9] [--seed 0] [--json]

Imports nothing from actlab. The 15 patterns, the forward pass and the criteria are written here once more, from the
format's description alone; what is measured is the float weights in store/weights, and those that the prompts and
completions show.

What it proves:
 1. rows       every stored row's label is right, no sequence is used twice in an example, each part (train, validation,
               test) holds every pattern of its network, and only train positives of the target were corrupted;
               store/unlisted has sequences of the dataset's other patterns that satisfy none of the network's own, of
               each pattern that has such sequences;
 2. criteria   on the stored rows every example meets every criterion of config.yaml, with the stored weights and with
               those that its prompts and completions show, and store/metrics has the numbers that the weights give. The
               improved network recognises each pattern that is listed and no other one, the degraded network does not
               recognise its target. What config.yaml does not set (a dataset of an earlier version) is 0.75;
 3. fresh      how many examples still hold on sequences drawn here: the target gains 0.03, no other pattern loses more
               than 0.04, and what is said to be recognised or not misses its threshold by 0.04 at most. Rows that the
               example has nowhere come first; where a pattern has too few of them, its test rows fill up, never those
               of train or validation;
 4. the rest   codes × scales give the weights, splits share no family, prompts parse back to the weights, attempts
               agree with the examples, and every file has the hash that manifest.json gives.

What it does not prove: that the weights came from the training that the settings describe, that the rejected attempts
were rejected rightly (their weights are not stored), that a signature is right, or that nobody changed the files and
the manifest together.

Exits 1 when anything of 1, 2 or 4 fails or fewer than --fresh-share of the examples hold in 3; 2 when DIR cannot be
read.
"""

# n sequences, p positions; a sequence is a row of letters' indices (A is 0) or its text, "ACB…"

import argparse
import hashlib
import itertools
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import erf, expit

MODELS = ("degraded", "improved")
PARTS = ("train", "validation", "test")
SPLITS = ("train", "validation", "test", "heldout")
OVERALL = "overall"
ENUMERATE = 2_000_000
"""Up to so many sequences in all, each pattern's set is listed; beyond, sequences are drawn."""
TOLERANCE = 1e-9
FRESH_GAIN, FRESH_LOSS, FRESH_SLACK = 0.03, 0.04, 0.04
RECOGNISED = "0.75"
"""The balanced accuracy from which a network recognises a pattern, where config.yaml does not say."""
NEAR_ZERO = 1e-4
"""A logit that another library's float32 may see on the other side of 0."""
LEAST_TEST_ROWS = 10
SEEN_APART = 20
"""A pattern has unlisted sequences where so many are to be expected in a draw of one and a half test sets."""


# ---------------------------------------------------------------------------------------------------------- patterns


def is_ascending(s: str) -> bool:
    return all(a <= b for a, b in itertools.pairwise(s))


def is_descending(s: str) -> bool:
    return all(a >= b for a, b in itertools.pairwise(s))


def is_alternating(s: str) -> bool:
    return s[0] != s[1] and all(a == b for a, b in zip(s, s[2:], strict=False))


def is_mountain(s: str) -> bool:
    peak = s.index(max(s))
    return is_ascending(s[: peak + 1]) and is_descending(s[peak:])


def is_vowel_consonant(s: str) -> bool:
    return all((a in "AEIOU") != (b in "AEIOU") for a, b in itertools.pairwise(s))


def predicates(start: str, end: str) -> dict[str, Callable[[str], bool]]:
    """Return what each pattern asks of a sequence; `start` and `end` are the tokens of starts_with and ends_with."""
    return {
        "all_same": lambda s: len(set(s)) == 1,
        "palindrome": lambda s: s == s[::-1],
        "sorted_ascending": is_ascending,
        "sorted_descending": is_descending,
        "alternating": is_alternating,
        "contains_abc": lambda s: "ABC" in s,
        "starts_with": lambda s: s[0] == start,
        "ends_with": lambda s: s[-1] == end,
        "no_repeats": lambda s: len(set(s)) == len(s),
        "has_majority": lambda s: max(map(s.count, set(s))) >= len(s) // 2 + 1,
        "increasing_pairs": is_ascending,
        "decreasing_pairs": is_descending,
        "vowel_consonant": is_vowel_consonant,
        "first_last_match": lambda s: s[0] == s[-1],
        "mountain_pattern": is_mountain,
    }


# ---------------------------------------------------- drawing a pattern's sequences, where there are too many to list


def _pick(rng: np.random.Generator, choices: Sequence[Any], weights: Sequence[int], n: int) -> list[Any]:
    shares = np.array([weight / sum(weights) for weight in weights])
    return [choices[i] for i in rng.choice(len(choices), n, p=shares / shares.sum())]


def _ascending(rng: np.random.Generator, n_letters: int, length: int) -> np.ndarray:
    """Draw a non-decreasing row: uniform over multisets, by stars and bars."""
    chosen = rng.choice(n_letters + length - 1, length, replace=False) if length else np.zeros(0, dtype=int)
    return np.sort(chosen) - np.arange(length)


def draw_ascending(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    return np.stack([_ascending(rng, vocab, length) for _ in range(n)])


def draw_mountain(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    """Draw the first maximum's place and letter by how many rows have it, then both slopes."""
    places = [(i, top) for i in range(length) for top in range(vocab) if i == 0 or top > 0]
    weights = [
        (math.comb(i + top - 1, i) if i else 1) * math.comb(top + length - 1 - i, length - 1 - i) for i, top in places
    ]
    rows = []
    for i, top in _pick(rng, places, weights, n):
        falling = _ascending(rng, top + 1, length - 1 - i)[::-1]
        rows.append(np.concatenate([_ascending(rng, top, i), [top], falling]))
    return np.stack(rows)


def draw_majority(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    """Draw how often the majority's letter is there, where, and the other letters; two letters cannot both be it."""
    counts = list(range(length // 2 + 1, length + 1))
    weights = [math.comb(length, k) * (vocab - 1) ** (length - k) for k in counts]
    rows = []
    for k in _pick(rng, counts, weights, n):
        letter = rng.integers(vocab)
        row = (letter + rng.integers(1, vocab, length)) % vocab
        row[rng.choice(length, k, replace=False)] = letter
        rows.append(row)
    return np.stack(rows)


def draw_vowel_consonant(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    vowels = [i for i in range(vocab) if chr(65 + i) in "AEIOU"]
    consonants = [i for i in range(vocab) if i not in vowels]
    longer, shorter = (length + 1) // 2, length // 2
    starts = [(vowels, consonants), (consonants, vowels)]
    rows = []
    for odd, even in _pick(rng, starts, [len(a) ** longer * len(b) ** shorter for a, b in starts], n):
        row = np.empty(length, dtype=int)
        row[::2], row[1::2] = rng.choice(odd, longer), rng.choice(even, shorter)
        rows.append(row)
    return np.stack(rows)


def draw_contains_abc(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    """Put ABC anywhere, and keep a row that has it k times once in k draws."""
    rows = rng.integers(vocab, size=(n, length))
    for row, place in zip(rows, rng.integers(length - 2, size=n), strict=True):
        row[place : place + 3] = (0, 1, 2)
    times = np.array([text.count("ABC") for text in texts_of(rows)])
    return rows[rng.random(n) < 1 / times]


def draw_no_repeats(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(vocab), (n, 1)), axis=1)[:, :length]


def draw_alternating(rng: np.random.Generator, n: int, vocab: int, length: int) -> np.ndarray:
    first = rng.integers(vocab, size=(n, 1))
    second = (first + rng.integers(1, vocab, size=(n, 1))) % vocab
    return np.tile(np.concatenate([first, second], axis=1), (1, (length + 1) // 2))[:, :length]


SHAPED: dict[str, Callable[[np.random.Generator, int, int, int], np.ndarray]] = {
    "sorted_ascending": draw_ascending,
    "increasing_pairs": draw_ascending,
    "sorted_descending": lambda *args: draw_ascending(*args)[:, ::-1],
    "decreasing_pairs": lambda *args: draw_ascending(*args)[:, ::-1],
    "mountain_pattern": draw_mountain,
    "has_majority": draw_majority,
    "vowel_consonant": draw_vowel_consonant,
    "contains_abc": draw_contains_abc,
    "no_repeats": draw_no_repeats,
    "alternating": draw_alternating,
}


def draw_positives(pattern: str, rng: np.random.Generator, n: int, space: "Space") -> np.ndarray:
    """Draw up to n rows that satisfy a pattern, each of its sequences as likely as any other."""
    vocab, length = space.vocab, space.length
    if pattern in SHAPED:
        return SHAPED[pattern](rng, n, vocab, length)
    rows = rng.integers(vocab, size=(n, length))
    if pattern == "palindrome":
        rows[:, (length + 1) // 2 :] = rows[:, : length // 2][:, ::-1]
    elif pattern == "first_last_match":
        rows[:, -1] = rows[:, 0]
    elif pattern == "starts_with":
        rows[:, 0] = ord(space.start) - 65
    elif pattern == "ends_with":
        rows[:, -1] = ord(space.end) - 65
    elif pattern == "all_same":
        rows[:] = rows[:, :1]
    return rows


# --------------------------------------------------------------------------------------------- the set of sequences


def tokens_of(texts: Sequence[str]) -> np.ndarray:
    length = len(texts[0]) if len(texts) else 0
    return np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).reshape(len(texts), length) - np.uint8(65)


def texts_of(tokens: np.ndarray) -> list[str]:
    return ["".join(map(chr, row)) for row in (tokens + 65).tolist()]


class Space:
    """All sequences of a vocabulary and a length: which satisfy a pattern, and fresh ones of each kind."""

    def __init__(self, vocab: int, length: int, start: str, end: str) -> None:
        self.vocab, self.length, self.start, self.end = vocab, length, start, end
        self.predicates = predicates(start, end)
        self.listed = vocab**length <= ENUMERATE
        self._place = vocab ** np.arange(length - 1, -1, -1, dtype=np.int64) if self.listed else np.zeros(0)
        self._masks: dict[str, np.ndarray] = {}

    def _mask(self, pattern: str) -> np.ndarray:
        """Return which of all sequences, in alphabetical order, satisfy a pattern."""
        if pattern not in self._masks:
            letters = [chr(65 + i) for i in range(self.vocab)]
            test = self.predicates[pattern]
            answers = (test("".join(s)) for s in itertools.product(letters, repeat=self.length))
            self._masks[pattern] = np.fromiter(answers, dtype=bool, count=self.vocab**self.length)
        return self._masks[pattern]

    def holds(self, text: str) -> bool:
        return len(text) == self.length and all("A" <= letter < chr(65 + self.vocab) for letter in text)

    def satisfies(self, pattern: str, texts: Sequence[str]) -> np.ndarray:
        """Return which of some sequences satisfy a pattern."""
        if self.listed:
            return self._mask(pattern)[self._index(texts)]
        return np.array([self.predicates[pattern](text) for text in texts], dtype=bool)

    def _index(self, texts: Sequence[str]) -> np.ndarray:
        return tokens_of(texts) @ self._place if len(texts) else np.zeros(0, dtype=np.int64)

    def draw(
        self, pattern: str | None, patterns: Sequence[str], n: int, taken: Sequence[str], spare: Sequence[str], rng: Any
    ) -> np.ndarray:
        """Draw distinct sequences of a pattern, or of none of `patterns`: unused ones, then spare, never taken ones."""
        fresh = self._listed_draw if self.listed else self._sampled_draw
        tokens = fresh(pattern, patterns, n, [*taken, *spare], rng)
        if len(tokens) < n and spare:
            wanted = self._wanted(pattern, patterns, spare)
            rest = tokens_of(spare)[wanted]
            tokens = np.concatenate([tokens, rng.permutation(rest)[: n - len(tokens)]])
        return tokens

    def draw_apart(self, pattern: str, own: Sequence[str], n: int, used: Sequence[str], rng: Any) -> np.ndarray:
        """Draw up to n distinct unused sequences of a pattern that satisfy none of a network's own."""
        if self.listed:
            candidates = np.flatnonzero(self._apart(pattern, own, used))
            return rng.choice(candidates, min(n, len(candidates)), replace=False)[:, None] // self._place % self.vocab
        found = dict.fromkeys(self._drawn_apart(pattern, own, 4 * n, used, rng))
        return tokens_of(list(found)[:n]) if found else np.zeros((0, self.length), dtype=np.uint8)

    def share_apart(self, pattern: str, own: Sequence[str], used: Sequence[str], rng: Any) -> float:
        """Return how many of a pattern's sequences are unused and satisfy none of a network's own: 0 for very few."""
        if self.listed:
            n, n_all = int(self._apart(pattern, own, used).sum()), int(self._mask(pattern).sum())
            return n / n_all if n >= LEAST_TEST_ROWS else 0.0
        found = self._drawn_apart(pattern, own, 2000, used, rng)
        return len(found) / 2000 if len(set(found)) >= LEAST_TEST_ROWS else 0.0

    def _apart(self, pattern: str, own: Sequence[str], used: Sequence[str]) -> np.ndarray:
        apart: np.ndarray = self._mask(pattern) & ~np.any([self._mask(one) for one in own], axis=0)
        apart[self._index(used)] = False
        return apart

    def _drawn_apart(self, pattern: str, own: Sequence[str], n: int, used: Sequence[str], rng: Any) -> list[str]:
        texts, known = texts_of(draw_positives(pattern, rng, n, self)), set(used)
        alone = ~np.any([self.satisfies(one, texts) for one in own], axis=0)
        return [text for text, is_alone in zip(texts, alone, strict=True) if is_alone and text not in known]

    def _wanted(self, pattern: str | None, patterns: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        if pattern is not None:
            return self.satisfies(pattern, texts)
        return ~np.any([self.satisfies(p, texts) for p in patterns], axis=0)

    def _listed_draw(
        self, pattern: str | None, patterns: Sequence[str], n: int, used: Sequence[str], rng: Any
    ) -> np.ndarray:
        free = np.any([self._mask(p) for p in ([pattern] if pattern else patterns)], axis=0)
        free = free if pattern else ~free
        free[self._index(used)] = False
        candidates = np.flatnonzero(free)
        chosen = rng.choice(candidates, min(n, len(candidates)), replace=False)
        return chosen[:, None] // self._place % self.vocab

    def _sampled_draw(
        self, pattern: str | None, patterns: Sequence[str], n: int, used: Sequence[str], rng: Any
    ) -> np.ndarray:
        known, found, idle = set(used), [], 0
        while len(found) < n and idle < 20:
            if pattern is not None:
                tokens = draw_positives(pattern, rng, n, self)
            else:
                tokens = rng.integers(self.vocab, size=(n, self.length))
            texts = texts_of(tokens)
            before = len(found)
            for text, wanted in zip(texts, self._wanted(pattern, patterns, texts), strict=True):
                if wanted and text not in known:
                    known.add(text)
                    found.append(text)
            idle = idle + 1 if len(found) == before else 0
        return tokens_of(found[:n]) if found else np.zeros((0, self.length), dtype=np.uint8)


# ----------------------------------------------------------------------------------------------- the subject networks


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "tanh": np.tanh,
    "sigmoid": expit,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
}


class Network(NamedTuple):
    """A subject network as it is stored: its Linear modules in order, with their names."""

    activation: str
    modules: list[tuple[str, np.ndarray, np.ndarray]]

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logit of each sequence, in float64."""
        x = tokens.astype(np.float64)
        for i, (_, weight, bias) in enumerate(self.modules):
            x = ACTIVATIONS[self.activation](x) if i else x
            x = x @ weight.T.astype(np.float64) + bias
        return x[:, 0]

    def tensors(self) -> dict[str, np.ndarray]:
        named = [
            (f"{name}.{kind}", values)
            for name, weight, bias in self.modules
            for kind, values in (("weight", weight), ("bias", bias))
        ]
        return dict(named)


class Rates(NamedTuple):
    """How a network answers a pattern's positives and the negatives."""

    yes: float
    no: float
    n_yes: int
    n_no: int
    n_near: int
    """Rows whose logit is nearly 0 and not 0."""
    n_tied: int
    """Rows whose logit is exactly 0, which is a no: networks whose weights are whole numbers have many."""

    @property
    def balanced(self) -> float:
        return (self.yes + self.no) / 2

    @property
    def yes_share(self) -> float:
        return (self.yes + 1 - self.no) / 2

    @property
    def flip(self) -> float:
        """Return what one row changes in a share, where a row's logit is so near to 0 that it may flip; otherwise 0."""
        return 1 / max(1, min(self.n_yes, self.n_no)) if self.n_near else 0.0


def measure(network: Network, positives: dict[str, np.ndarray], negatives: np.ndarray) -> dict[str, Rates]:
    """Return the rates by pattern, and of all patterns' positives together."""
    logits = {pattern: network.logits(tokens) for pattern, tokens in positives.items()}
    logits[OVERALL] = np.concatenate(list(logits.values()))
    refused = network.logits(negatives)
    rates = {}
    for pattern, answers in logits.items():
        yes = float(np.mean(answers > 0)) if len(answers) else math.nan
        no = float(np.mean(refused <= 0)) if len(refused) else math.nan
        sizes = np.abs(np.concatenate([answers, refused]))
        n_tied = int(np.sum(sizes == 0))
        n_near = int(np.sum(sizes < NEAR_ZERO)) - n_tied
        rates[pattern] = Rates(yes, no, len(answers), len(refused), n_near, n_tied)
    return rates


# -------------------------------------------------------------------------------------------------- reading the files


class Rows(NamedTuple):
    """An example's stored sequences, a column each."""

    part: np.ndarray
    text: np.ndarray
    label: np.ndarray
    pattern: np.ndarray
    corrupted: np.ndarray

    def of(self, *parts: str) -> list[str]:
        return self.text[np.isin(self.part, parts)].tolist()


class Dataset(NamedTuple):
    """What the checks look at."""

    folder: Path
    settings: dict[str, str]
    candidates: list[str]
    """The patterns that a network may have, and a classification asks about."""
    metadata: dict[str, Any]
    specs: dict[int, dict[str, Any]]
    networks: dict[tuple[int, str], Network]
    rows: dict[int, Rows]
    unlisted: dict[int, dict[str, list[str]]]
    """By example and other pattern, the sequences by which its improved network is asked for it."""
    metrics: dict[tuple[int, str, str], dict[str, Any]]


class UnreadableError(Exception):
    """The dataset is not there, or not whole enough to begin."""


def read_settings(path: Path) -> dict[str, str]:
    """Return config.yaml by dotted name: block mappings of scalars, as programs write them; lists are passed over."""
    settings: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if not text or text.startswith(("#", "-")):
            continue
        indent = len(line) - len(line.lstrip())
        above = [(depth, name) for depth, name in above if depth < indent]
        name, _, value = text.partition(":")
        above.append((indent, name))
        if value.strip():
            settings[".".join(part for _, part in above)] = value.strip().strip("'\"")
    return settings


def table(folder: Path, name: str) -> pa.Table | None:
    files = sorted((folder / "store").glob(f"{name}-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else None


def table_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    found = table(folder, name)
    if found is None:
        raise UnreadableError(f"{folder} has no store/{name}")
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _module_order(name: str) -> tuple[int, str]:
    number = name.rpartition(".")[2]
    return (int(number) if number.isdigit() else -1, name)


def read_networks(folder: Path, specs: dict[int, dict[str, Any]]) -> dict[tuple[int, str], Network]:
    """Return the float weights of every network, modules in numeric order."""
    networks: dict[tuple[int, str], Network] = {}
    for row in table_rows(folder, "weights"):
        spec = specs.get(row["example_id"])
        if spec is None:
            raise UnreadableError(f"store/weights has example {row['example_id']}, store/specs has not")
        weight = np.array(row["weight"], dtype=np.float32).reshape(row["n_outputs"], row["n_inputs"])
        key = (row["example_id"], row["model"])
        network = networks.setdefault(key, Network(spec["activation_type"], []))
        network.modules.append((row["module"], weight, np.array(row["bias"], dtype=np.float32)))
    for network in networks.values():
        network.modules.sort(key=lambda module: _module_order(module[0]))
    return networks


def read_rows(folder: Path) -> dict[int, Rows]:
    found = table(folder, "rows")
    if found is None:
        raise UnreadableError(f"{folder} has no store/rows: nobody can measure again")
    ids = found["example_id"].to_numpy()
    names = ("part", "sequence", "label", "pattern", "corrupted")
    columns = [np.array(found[name].to_pylist(), dtype=object) for name in names]
    order = np.argsort(ids, kind="stable")
    unique, starts = np.unique(ids[order], return_index=True)
    return {
        int(example_id): Rows(*(column[indices] for column in columns))
        for example_id, indices in zip(unique, np.split(order, starts[1:]), strict=True)
    }


def read_unlisted(folder: Path) -> dict[int, dict[str, list[str]]]:
    found = table(folder, "unlisted")
    sequences: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in found.to_pylist() if found is not None else []:
        sequences[row["example_id"]][row["pattern"]].append(row["sequence"])
    return sequences


def read_dataset(folder: Path) -> Dataset:
    try:
        specs = {row["example_id"]: row for row in table_rows(folder, "specs")}
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        metrics = {(row["example_id"], row["model"], row["pattern"]): row for row in table_rows(folder, "metrics")}
        return Dataset(
            folder,
            read_settings(folder / "config.yaml"),
            metadata["patterns"],
            metadata,
            specs,
            read_networks(folder, specs),
            read_rows(folder),
            read_unlisted(folder),
            metrics,
        )
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UnreadableError(f"{folder}: {error!r}") from error


# ------------------------------------------------------------------------------------------------------- the findings


class Report:
    """Problems by check, and figures to print."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = defaultdict(list)
        self.checks: list[str] = []
        self.figures: dict[str, Any] = {}

    def begin(self, check: str) -> None:
        self.checks.append(check)

    def fail(self, text: str) -> None:
        self.problems[self.checks[-1]].append(text)

    def expect(self, condition: bool, text: str) -> None:
        if not condition:
            self.fail(text)


# ------------------------------------------------------------------------------------------------------ 1. the rows


def check_rows(data: Dataset, spaces: Callable[[dict[str, Any]], Space], report: Report) -> set[int]:
    """Check every stored row; return the examples whose rows are sequences at all."""
    report.begin("1 rows")
    sizes: list[tuple[int, int]] = []
    sound: set[int] = set()
    for example_id, spec in data.specs.items():
        rows = data.rows.get(example_id)
        if rows is None:
            report.fail(f"example {example_id}: no rows")
            continue
        space = spaces(spec)
        strangers = [text for text in rows.text if not space.holds(text)]
        if strangers:
            report.fail(f"example {example_id}: {strangers[0]} is no sequence of {space.length} of {space.vocab}")
            continue
        sound.add(example_id)
        _check_labels(example_id, spec, rows, space, report)
        _check_parts(example_id, spec, rows, report)
        if by_pattern(data.settings) and not _check_unlisted(example_id, spec, rows, data, space, report):
            sound.remove(example_id)
        _check_corruption(example_id, spec, rows, data.settings, report)
        test = rows.part == "test"
        n_no = int(np.sum(test & (rows.label == 0)))
        sizes += [(int(np.sum(test & (rows.pattern == pattern))), n_no) for pattern in spec["patterns"]]
    report.expect(set(data.unlisted) <= set(data.specs), "store/unlisted names other examples")
    report.expect(set(data.rows) == set(data.specs), "store/rows and store/specs name other examples")
    report.figures["rows"] = sum(len(rows.text) for rows in data.rows.values())
    if sizes:
        yes, no = np.array(sizes).T
        report.figures["test positives of a pattern, least and most"] = [int(yes.min()), int(yes.max())]
        report.figures["test negatives, least and most"] = [int(no.min()), int(no.max())]
    return sound


def _check_labels(example_id: int, spec: dict[str, Any], rows: Rows, space: Space, report: Report) -> None:
    truth = {pattern: space.satisfies(pattern, rows.text.tolist()) for pattern in spec["patterns"]}
    for pattern, satisfied in truth.items():
        for i in np.flatnonzero((rows.label == 1) & (rows.pattern == pattern) & ~satisfied):
            report.fail(f"example {example_id}: {rows.part[i]} row {rows.text[i]} is said to be {pattern} and is not")
    for i in np.flatnonzero((rows.label == 0) & np.any(list(truth.values()), axis=0)):
        names = [pattern for pattern, satisfied in truth.items() if satisfied[i]]
        report.fail(f"example {example_id}: {rows.part[i]} row {rows.text[i]} has label 0 and is {', '.join(names)}")
    odd = ~np.isin(rows.label, (0, 1)) | ((rows.label == 1) & ~np.isin(rows.pattern, spec["patterns"]))
    odd |= (rows.label == 0) & np.array([pattern is not None for pattern in rows.pattern])
    for i in np.flatnonzero(odd):
        report.fail(f"example {example_id}: row {rows.text[i]} has label {rows.label[i]} and names {rows.pattern[i]}")


def _check_parts(example_id: int, spec: dict[str, Any], rows: Rows, report: Report) -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for text, part in zip(rows.text, rows.part, strict=True):
        where[text].append(part)
    for text, parts in where.items():
        if len(parts) > 1:
            report.fail(f"example {example_id}: {text} is there {len(parts)} times, in {', '.join(sorted(parts))}")
    report.expect(set(rows.part) == set(PARTS), f"example {example_id}: parts {sorted(set(rows.part))}")
    for part in PARTS:
        least = LEAST_TEST_ROWS if part == "test" else 1
        kinds = {pattern: rows.pattern == pattern for pattern in spec["patterns"]} | {"none": rows.label == 0}
        for kind, there in kinds.items():
            n = int(np.sum(there & (rows.part == part)))
            report.expect(n >= least, f"example {example_id}: {part} has {n} rows of {kind}, not {least} or more")


def _check_unlisted(
    example_id: int, spec: dict[str, Any], rows: Rows, data: Dataset, space: Space, report: Report
) -> bool:
    """Check the sequences of other patterns, and that each has some that could have; tell whether all can be asked."""
    name, own, known = f"example {example_id}", spec["patterns"], set(rows.text)
    there = data.unlisted.get(example_id, {})
    others = [pattern for pattern in data.candidates if pattern not in own]
    for pattern, texts in there.items():
        if pattern not in others or not all(space.holds(text) for text in texts):
            report.fail(f"{name}: unlisted {pattern} is no other pattern, or has what is no sequence")
            return False
        for text in texts:
            right = space.predicates[pattern](text) and not any(space.predicates[one](text) for one in own)
            report.expect(right, f"{name}: unlisted {text} is not {pattern} alone")
            report.expect(text not in known, f"{name}: unlisted {text} is there before")
            known.add(text)
    rng = np.random.default_rng([1, example_id])
    draw = int(data.settings["validation.test_set_size"]) + 64
    for pattern in others:
        n = len(there.get(pattern, ()))
        if n < LEAST_TEST_ROWS:
            expected = space.share_apart(pattern, own, list(known), rng) * draw
            report.expect(n == 0, f"{name}: {n} unlisted sequences of {pattern}, too few to judge by")
            report.expect(expected < SEEN_APART, f"{name}: no unlisted sequences of {pattern}")
    return True


def _check_corruption(
    example_id: int, spec: dict[str, Any], rows: Rows, settings: dict[str, str], report: Report
) -> None:
    corrupted = rows.corrupted.astype(bool)
    target = (rows.part == "train") & (rows.label == 1) & (rows.pattern == spec["target_pattern"])
    for i in np.flatnonzero(corrupted & ~target):
        report.fail(f"example {example_id}: {rows.part[i]} row {rows.text[i]} ({rows.pattern[i]}) is corrupted")
    expected = int(int(target.sum()) * float(settings["staged_training.corruption_rate"]))
    counts = (int(target.sum()), int(corrupted.sum()))
    said = (spec["n_target_rows"], spec["n_corrupted_rows"])
    report.expect(counts == said, f"example {example_id}: target and corrupted rows {counts}, store/specs says {said}")
    report.expect(counts[1] == expected, f"example {example_id}: {counts[1]} rows corrupted, not {expected}")


# -------------------------------------------------------------------------------------------------- 2. the criteria


class Measured(NamedTuple):
    """Both networks of an example on the same rows."""

    target: str
    degraded: dict[str, Rates]
    improved: dict[str, Rates]

    def gain(self, pattern: str) -> float:
        return self.improved[pattern].balanced - self.degraded[pattern].balanced

    def slack(self, pattern: str) -> float:
        return TOLERANCE + (self.improved[pattern].flip + self.degraded[pattern].flip) / 2

    @property
    def others(self) -> list[str]:
        return [pattern for pattern in self.degraded if pattern not in (self.target, OVERALL)]

    @property
    def worst_other(self) -> float | None:
        return min((self.gain(pattern) for pattern in self.others), default=None)


Networks = dict[tuple[int, str], Network]


class Asked(NamedTuple):
    """The rows on which an example's networks are measured."""

    positives: dict[str, np.ndarray]
    negatives: np.ndarray
    unlisted: dict[str, np.ndarray]
    """By other patterns of the dataset: rows that satisfy none of the network's own."""


def both(data: Dataset, networks: Networks, example_id: int, asked: Asked) -> Measured:
    rates = [measure(networks[example_id, model], asked.positives, asked.negatives) for model in MODELS]
    return Measured(data.specs[example_id]["target_pattern"], *rates)


def measure_unlisted(network: Network, asked: Asked, space: Space) -> dict[str, Rates]:
    """Return the rates on each other pattern: a no is asked of the negatives that do not satisfy it by chance."""
    texts = texts_of(asked.negatives)
    return {
        pattern: measure(network, {pattern: tokens}, asked.negatives[~space.satisfies(pattern, texts)])[pattern]
        for pattern, tokens in asked.unlisted.items()
    }


def by_pattern(settings: dict[str, str]) -> bool:
    return settings["validation.pattern_specific"] == "true"


def check_networks(data: Dataset, report: Report) -> None:
    """The shapes, names and counts, so that what is measured is the network that the spec describes."""
    report.begin("2 networks")
    for example_id, spec in data.specs.items():
        width, n_layers = spec["neurons_per_layer"], spec["num_layers"]
        shapes = [(width, spec["sequence_length"]), *[(width, width)] * (n_layers - 1), (1, width)]
        for model in MODELS:
            network = data.networks.get((example_id, model))
            found = [weight.shape for _, weight, _ in network.modules] if network else []
            report.expect(found == shapes, f"example {example_id}, {model}: shapes {found}, not {shapes}")
            if network is None:
                continue
            tensors = network.tensors()
            n = sum(values.size for values in tensors.values())
            report.expect(n == spec["n_parameters"], f"example {example_id}, {model}: {n} parameters")
            finite = all(np.isfinite(values).all() for values in tensors.values())
            report.expect(finite, f"example {example_id}, {model}: weights that are not finite")
            names = [name for name, _, _ in network.modules]
            step = 3 if spec["dropout_rate"] > 0 else 2
            expected = [f"network.{i * step}" for i in range(n_layers + 1)]
            report.expect(names == expected, f"example {example_id}, {model}: modules {names}")
        known = set(spec["patterns"]) <= set(predicates("A", "A")) and spec["target_pattern"] in spec["patterns"]
        report.expect(known, f"example {example_id}: patterns {spec['patterns']}, target {spec['target_pattern']}")


def stored_rows(spec: dict[str, Any], rows: Rows, unlisted: dict[str, list[str]]) -> Asked:
    test = rows.part == "test"
    return Asked(
        {p: tokens_of(rows.text[test & (rows.label == 1) & (rows.pattern == p)]) for p in spec["patterns"]},
        tokens_of(rows.text[test & (rows.label == 0)]),
        {pattern: tokens_of(texts) for pattern, texts in sorted(unlisted.items())},
    )


def drawn_unlisted(
    data: Dataset, spec: dict[str, Any], rows: Rows, space: Space, n: int, seed: int
) -> dict[str, np.ndarray]:
    """Draw sequences of each other pattern that the example has nowhere; few are as good as none."""
    rng = np.random.default_rng([seed, spec["example_id"], 1])
    others = [pattern for pattern in data.candidates if pattern not in spec["patterns"]]
    drawn = {p: space.draw_apart(p, spec["patterns"], n, rows.text.tolist(), rng) for p in others}
    return {pattern: tokens for pattern, tokens in drawn.items() if len(tokens) >= LEAST_TEST_ROWS}


def check_criteria(
    data: Dataset, shown: Networks, spaces: Callable[[dict[str, Any]], Space], report: Report
) -> tuple[dict[int, Measured], dict[int, float]]:
    """Measure every example on its stored rows; return that, and the best recognised unlisted pattern's accuracy."""
    report.begin("2 criteria")
    measured: dict[int, Measured] = {}
    highest: dict[int, float] = {}
    for example_id, spec in data.specs.items():
        rows, space = data.rows[example_id], spaces(spec)
        asked = stored_rows(spec, rows, data.unlisted.get(example_id, {}))
        if by_pattern(data.settings) and not data.unlisted:  # an earlier version's
            asked = asked._replace(unlisted=drawn_unlisted(data, spec, rows, space, asked.negatives.shape[0], 0))
        for networks, name in ((data.networks, f"example {example_id}"), (shown, f"example {example_id}, as shown")):
            if any((example_id, model) not in networks for model in MODELS):
                report.fail(f"{name}: its weights are not there to be measured")
                continue
            found = both(data, networks, example_id, asked)
            unlisted = measure_unlisted(networks[example_id, "improved"], asked, space)
            _check_example(name, found, unlisted, data.settings, report)
            if networks is data.networks:
                measured[example_id] = found
                if unlisted:
                    highest[example_id] = max(rates.balanced for rates in unlisted.values())
    gains = {i: m.gain(m.target) for i, m in measured.items()}
    others = {i: m.worst_other for i, m in measured.items() if m.worst_other is not None}
    report.figures["smallest target gain"] = _worst(gains, 3)
    lowest = {i: min(m.improved[p].balanced for p in m.improved if p != OVERALL) for i, m in measured.items()}
    report.figures["least recognised listed patterns"] = _worst(lowest, 3)
    report.figures["best recognised unlisted patterns"] = _worst({i: -high for i, high in highest.items()}, 3, -1)
    forgotten = {i: -m.degraded[m.target].balanced for i, m in measured.items()}
    report.figures["best recognised targets of degraded networks"] = _worst(forgotten, 3, -1)
    report.figures["largest loss of another pattern"] = _worst(others, 3)
    report.figures["smallest overall gain"] = _worst({i: m.gain(OVERALL) for i, m in measured.items()}, 3)
    lopsided = {i: 0.5 - abs(m.degraded[OVERALL].yes_share - 0.5) for i, m in measured.items()}
    report.figures["most one-sided degraded networks (share of the rarer answer)"] = _worst(lopsided, 3)
    flat = [rates for m in measured.values() for side in (m.degraded, m.improved) for rates in side.values()]
    report.figures["rows with a logit within 1e-4 of 0, most in a measurement"] = max(r.n_near for r in flat)
    tied = max(r.n_tied / max(1, r.n_yes + r.n_no) for r in flat)
    report.figures["share of logits that are exactly 0, largest in a measurement"] = round(tied, 4)
    return measured, highest


def _worst(values: dict[int, float], n: int, sign: int = 1) -> list[str]:
    return [f"{sign * value:+.4f} (example {i})" for i, value in sorted(values.items(), key=lambda item: item[1])[:n]]


def _check_example(
    name: str, m: Measured, unlisted: dict[str, Rates], settings: dict[str, str], report: Report
) -> None:
    least = float(settings["validation.min_pattern_improvement"])
    overall = float(settings["training.min_degradation_threshold"])
    loss = float(settings["validation.max_other_degradation"])
    one_sided = float(settings["validation.max_one_sided"])
    gain = m.gain(m.target)
    each = by_pattern(settings)
    report.expect(
        not each or gain >= least - m.slack(m.target),
        f"{name}: the target {m.target} gains {gain:.4f}, not {least}",
    )
    for pattern in m.others if each else ():
        change = m.gain(pattern)
        report.expect(change >= -loss - m.slack(pattern), f"{name}: {pattern} loses {-change:.4f}, more than {loss}")
    if each:
        _check_recognised(name, m, unlisted, settings, report)
        accuracy = float(settings["validation.min_accuracy"])
        others = [m.degraded[pattern].balanced + m.slack(pattern) for pattern in m.others]
        mean = sum(others) / len(others) if others else 1.0
        report.expect(mean >= accuracy, f"{name}: degraded, the other patterns have {mean:.4f}, not {accuracy}")
    gain = m.gain(OVERALL)
    report.expect(gain >= overall - m.slack(OVERALL), f"{name}: overall gains {gain:.4f}, not {overall}")
    for model, sides in zip(MODELS, (m.degraded, m.improved), strict=True):
        share, slack = sides[OVERALL].yes_share, m.slack(OVERALL)
        fair = 1 - one_sided - slack <= share <= one_sided + slack
        report.expect(fair, f"{name}: the {model} network says yes to {share:.4f}")


def _check_recognised(
    name: str, m: Measured, unlisted: dict[str, Rates], settings: dict[str, str], report: Report
) -> None:
    """What is listed is recognised, what is not is not, and the target was forgotten."""
    floor = float(settings["validation.min_accuracy"])
    for pattern in (m.target, *m.others):
        found = m.improved[pattern].balanced
        enough = found + m.slack(pattern) >= floor
        report.expect(enough, f"{name}: the listed {pattern} has {found:.4f} in the improved network, not {floor}")
    most = float(settings.get("validation.max_unlisted_accuracy", RECOGNISED))
    for pattern, rates in unlisted.items():
        little = rates.balanced - rates.flip / 2 < most
        report.expect(little, f"{name}: the unlisted {pattern} has {rates.balanced:.4f} in the improved network")
    most = float(settings.get("validation.max_degraded_accuracy", RECOGNISED))
    found = m.degraded[m.target].balanced
    little = found - m.degraded[m.target].flip / 2 < most
    report.expect(little, f"{name}: the target {m.target} has {found:.4f} in the degraded network")


def check_metrics(data: Dataset, measured: dict[int, Measured], report: Report) -> None:
    report.begin("2 metrics")
    expected, largest = set(), 0.0
    for example_id, m in measured.items():
        for model, sides in zip(MODELS, (m.degraded, m.improved), strict=True):
            for pattern, rates in sides.items():
                expected.add((example_id, model, pattern))
                name = f"example {example_id}, {model}, {pattern}"
                row = data.metrics.get((example_id, model, pattern))
                if row is None:
                    report.fail(f"{name}: no row in store/metrics")
                    continue
                counts = (row["n_yes"], row["n_no"])
                report.expect(counts == (rates.n_yes, rates.n_no), f"{name}: {counts} rows, {rates.n_yes, rates.n_no}")
                pairs = {"accuracy": rates.balanced, "yes_accuracy": rates.yes, "no_accuracy": rates.no}
                for column, ours in pairs.items():
                    difference = abs(row[column] - ours)
                    largest = max(largest, difference)
                    close = difference <= 1e-6 + (rates.flip / 2 if column == "accuracy" else rates.flip)
                    near = f"({rates.n_near} logits within {NEAR_ZERO} of 0)"
                    report.expect(close, f"{name}: {column} {row[column]:.6f}, the weights give {ours:.6f} {near}")
    report.expect(set(data.metrics) == expected, "store/metrics and store/specs name other networks or patterns")
    report.figures["largest difference from store/metrics"] = largest


# ------------------------------------------------------------------------------------------------ 3. fresh sequences


def check_fresh(
    data: Dataset,
    spaces: Callable[[dict[str, Any]], Space],
    stored: dict[int, Measured],
    options: argparse.Namespace,
    report: Report,
) -> None:
    report.begin("3 fresh")
    measured: dict[int, Measured] = {}
    mistaken: dict[int, list[str]] = {}
    counts: list[int] = []
    unused: list[int] = []
    for example_id, spec in data.specs.items():
        rng = np.random.default_rng([options.seed, example_id])
        rows, space = data.rows[example_id], spaces(spec)
        taken, spare, patterns = rows.of("train", "validation"), rows.of("test"), spec["patterns"]
        positives = {p: space.draw(p, patterns, options.fresh, taken, spare, rng) for p in patterns}
        negatives = space.draw(None, patterns, options.fresh, taken, spare, rng)
        unlisted = drawn_unlisted(data, spec, rows, space, options.fresh, options.seed)
        asked = Asked(positives, negatives, unlisted)
        found = measured[example_id] = both(data, data.networks, example_id, asked)
        rates = measure_unlisted(data.networks[example_id, "improved"], asked, space)
        mistaken[example_id] = _mistaken(found, rates, data.settings)
        counts += [len(tokens) for tokens in positives.values()]
        known = set(spare)
        unused += [sum(text not in known for text in texts_of(tokens)) for tokens in positives.values()]
    _judge_fresh(measured, stored, mistaken, options.fresh_share, report)
    report.figures["fresh positives of a pattern, least and most"] = [min(counts), max(counts)]
    report.figures["of them rows that the example has nowhere, least and most"] = [min(unused), max(unused)]
    n_filled = sum(n < total for n, total in zip(unused, counts, strict=True))
    report.figures["patterns filled up with test rows"] = f"{n_filled} of {len(counts)}"


def _mistaken(m: Measured, unlisted: dict[str, Rates], settings: dict[str, str]) -> list[str]:
    """Return the patterns that are recognised or not, other than the example says."""
    if not by_pattern(settings):
        return []
    floor = float(settings["validation.min_accuracy"]) - FRESH_SLACK
    most = float(settings.get("validation.max_unlisted_accuracy", RECOGNISED)) + FRESH_SLACK
    forgotten = float(settings.get("validation.max_degraded_accuracy", RECOGNISED)) + FRESH_SLACK
    found = [f"{p} listed {m.improved[p].balanced:.2f}" for p in m.improved if m.improved[p].balanced < floor]
    found += [f"{p} unlisted {rates.balanced:.2f}" for p, rates in unlisted.items() if rates.balanced >= most]
    target = m.degraded[m.target].balanced
    return found + ([f"{m.target} degraded {target:.2f}"] if target >= forgotten else [])


def _judge_fresh(
    measured: dict[int, Measured],
    stored: dict[int, Measured],
    mistaken: dict[int, list[str]],
    least_share: float,
    report: Report,
) -> None:
    gains = {i: m.gain(m.target) for i, m in measured.items()}
    others = {i: m.worst_other for i, m in measured.items() if m.worst_other is not None}
    weak = {i for i, gain in gains.items() if not gain >= FRESH_GAIN - TOLERANCE}
    harmed = {i for i, change in others.items() if not change >= -FRESH_LOSS - TOLERANCE}
    wrong = {i for i, found in mistaken.items() if found}
    share = 1 - len(weak | harmed | wrong) / len(measured)
    figures = report.figures
    figures["share that holds on fresh sequences"] = round(share, 4)
    figures["of the others, target gains too little"] = sorted(weak)
    figures["of the others, another pattern loses too much"] = sorted(harmed)
    listing = [f"{i}: {', '.join(found)}" for i, found in mistaken.items() if found]
    figures["of the others, recognises other patterns than said"] = listing
    figures["smallest target gain, fresh"] = _worst(gains, 5)
    figures["largest loss of another pattern, fresh"] = _worst(others, 5)
    figures["median target gain, stored and fresh"] = [
        round(float(np.median([m.gain(m.target) for m in side.values()])), 4) for side in (stored, measured)
    ]
    for model in MODELS:
        for rate in ("yes", "no"):
            shift = [
                getattr(getattr(measured[i], model)[p], rate) - getattr(getattr(stored[i], model)[p], rate)
                for i in measured
                for p in ([OVERALL] if rate == "no" else [*measured[i].others, measured[i].target])
            ]
            figures[f"mean of fresh less stored, {model}, share of right {rate}"] = round(float(np.mean(shift)), 4)
    shift = [measured[i].gain(p) - stored[i].gain(p) for i in measured for p in measured[i].others]
    figures["mean of fresh less stored, change of other patterns"] = round(float(np.mean(shift)), 4) if shift else None
    report.expect(share >= least_share, f"{share:.1%} of the examples hold, fewer than {least_share:.0%}")


# ------------------------------------------------------------------------------------------- 4. codes and precision


def rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """Return float32 values rounded to a precision, ties to even."""
    values = np.asarray(values, dtype=np.float32)
    if precision == "float16":
        return values.astype(np.float16).astype(np.float32)
    if precision == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
        return bits.astype(np.uint32).view(np.float32)
    return values


CODES = {"int8": range(-127, 128), "int4": range(-7, 8), "ternary": (-1, 0, 1), "binary": (-1, 1)}


def check_codes(data: Dataset, report: Report) -> None:
    report.begin("4 codes")
    for (example_id, model), network in data.networks.items():
        for name, values in network.tensors().items():
            same = np.array_equal(rounded(values, data.specs[example_id]["precision"]), values)
            report.expect(
                same, f"example {example_id}, {model}, {name}: finer than {data.specs[example_id]['precision']}"
            )
    found = table(data.folder, "codes")
    wanted = {
        (i, model, module[0])
        for (i, model), network in data.networks.items()
        for module in network.modules
        if data.specs[i]["quantization"] != "none"
    }
    there = set()
    for row in found.to_pylist() if found is not None else []:
        key = (row["example_id"], row["model"], row["module"])
        there.add(key)
        if key in wanted:
            _check_module_codes(data, row, report)
    report.expect(there == wanted, f"codes of {len(there)} modules, {len(wanted)} are quantised")
    report.figures["modules with codes"] = len(there)


def _check_module_codes(data: Dataset, row: dict[str, Any], report: Report) -> None:
    spec = data.specs[row["example_id"]]
    tensors = data.networks[row["example_id"], row["model"]].tensors()
    for kind in ("weight", "bias"):
        name = f"example {row['example_id']}, {row['model']}, {row['module']}.{kind}"
        values = tensors[f"{row['module']}.{kind}"]
        codes = np.array(row[f"{kind}_codes"], dtype=np.float32)
        scales = np.array(row[f"{kind}_scales"], dtype=np.float32)
        if codes.size != values.size or scales.size not in (1, len(values)):
            report.fail(f"{name}: {codes.size} codes and {scales.size} scales for {values.shape}")
            continue
        report.expect(bool(np.isin(codes, CODES[spec["quantization"]]).all()), f"{name}: codes out of range")
        product = codes.reshape(len(values), -1) * scales[:, None]
        off = rounded(product.reshape(values.shape), spec["precision"]) != values
        report.expect(not off.any(), f"{name}: {int(off.sum())} codes times scales are not the weights")


# ------------------------------------------------------------------------------------------------ 4. splits, records


def check_splits(data: Dataset, report: Report) -> None:
    report.begin("4 splits")
    splits, names = defaultdict(set), defaultdict(set)
    pair = set(data.metadata.get("heldout_pair") or ())
    sizes = dict.fromkeys(SPLITS, 0)
    for example_id, spec in data.specs.items():
        shape = (spec["num_layers"], spec["neurons_per_layer"], spec["activation_type"])
        family = (frozenset(spec["patterns"]), *shape)
        splits[family].add(spec["split"])
        splits[spec["family"]].add(spec["split"])
        names[family].add(spec["family"])
        report.expect(spec["split"] in SPLITS, f"example {example_id}: split {spec['split']}")
        sizes[spec["split"]] = sizes.get(spec["split"], 0) + 1
        if pair and pair <= set(spec["patterns"]) and spec["split"] != "heldout":
            report.fail(f"example {example_id}: has {' and '.join(sorted(pair))} and is in {spec['split']}")
    for family, found in splits.items():
        report.expect(len(found) == 1, f"family {family} is in {', '.join(sorted(found))}")
    report.expect(all(len(found) == 1 for found in names.values()), "one family has two names")
    said = {split: n for split, n in (data.metadata.get("splits") or {}).items() if n}
    found_sizes = {split: n for split, n in sizes.items() if n}
    report.expect(said == found_sizes, f"splits {found_sizes}, metadata.json says {said}")
    report.figures["splits"] = found_sizes
    report.figures["families"] = len(names)


def records(folder: Path, task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((folder / task).glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                yield file.name.rpartition("-")[0], row


def weights_in_prompt(prompt: str) -> dict[str, Any]:
    """Return the tensors that a prompt shows, in its order, whichever its style."""
    decode = json.JSONDecoder().raw_decode
    head = "## Model Weights\n"
    if head in prompt:
        tensors: dict[str, Any] = decode(prompt, prompt.index(head) + len(head))[0]
        return tensors
    found, layer = {}, ""
    for line in prompt.splitlines():
        if line.startswith("### layer_"):
            layer = line.removeprefix("### layer_").strip()
        for kind in ("weight", "bias"):
            if line.startswith(f"{kind}: "):
                found[f"network.{layer}.{kind}"] = decode(line, len(kind) + 2)[0]
    return found


def weights_differ(parsed: dict[str, Any], network: Network, precision: str, digits: str) -> str | None:
    """Return how parsed tensors differ from the stored ones by more than the digits leave out, or None."""
    tensors = network.tensors()
    if list(parsed) != list(tensors):
        return f"tensors {list(parsed)}, not {list(tensors)}"
    for name, stored in tensors.items():
        try:
            values = np.array(parsed[name], dtype=np.float64)
        except ValueError:
            return f"{name} is ragged"
        if values.shape != stored.shape:
            return f"{name} has shape {values.shape}, not {stored.shape}"
        if digits.isdigit():
            room = 0.5 * 10.0 ** -int(digits) + np.abs(stored.astype(np.float64)) * 2.0**-23
            off = np.abs(values - stored) > room
        else:
            off = rounded(values, precision) != stored
        if off.any():
            return f"{name}: {int(off.sum())} of {off.size} values are others"
    return None


def check_records(data: Dataset, report: Report) -> Networks:
    """Check prompts and completions; return the networks that they show."""
    report.begin("4 prompts")
    shown: Networks = {}
    digits = data.settings["signature.prompt_format.digits"]
    for task in ("modification", "classification"):
        wanted = data.settings[f"task_generation.include_{task}"] == "true"
        there = []
        for split, row in records(data.folder, task):
            example_id = row["example_id"]
            there.append(example_id)
            if example_id not in data.specs:
                continue
            name = f"{task} {example_id}"
            report.expect(split == data.specs[example_id]["split"], f"{name}: is in {split}")
            same = (row["prompt"], row["completion"]) == (row[f"{task}_prompt"], row[f"{task}_completion"])
            report.expect(same, f"{name}: prompt and completion are not {task}_prompt and {task}_completion")
            _check_record(data, name, task, row, digits, shown, report)
        report.expect(
            sorted(there) == (sorted(data.specs) if wanted else []), f"{task}: {len(there)} records, or others"
        )
        report.figures[f"{task} records"] = len(there)
    return shown


def _check_record(
    data: Dataset, name: str, task: str, row: dict[str, Any], digits: str, shown: Networks, report: Report
) -> None:
    spec = data.specs[row["example_id"]]
    in_prompt = "degraded" if task == "modification" else "improved"
    texts = [
        ("prompt", in_prompt, lambda: weights_in_prompt(row["prompt"])),
        ("degraded_model_weights", "degraded", lambda: json.loads(row["degraded_model_weights"])),
        ("improved_model_weights", "improved", lambda: json.loads(row["improved_model_weights"])),
    ]
    if task == "modification":
        texts.append(("completion", "improved", lambda: json.loads(row["completion"])))
        asked = f"`{spec['target_pattern']}`" in row["prompt"].rpartition("## Task")[2]
        report.expect(asked, f"{name}: the task does not name {spec['target_pattern']}")
    else:
        named = [part.strip() for part in row["completion"].split(",")]
        right = len(named) == len(set(named)) and set(named) == set(spec["patterns"])
        report.expect(right, f"{name}: the completion is {row['completion']!r}, not {spec['patterns']}")
    for where, model, parse in texts:
        try:
            network, parsed = data.networks[row["example_id"], model], parse()
            difference = weights_differ(parsed, network, spec["precision"], digits)
            if difference is None:
                one = _as_shown(parsed, network)
                first = shown.setdefault((row["example_id"], model), one).tensors()
                if any(not np.array_equal(values, first[key]) for key, values in one.tensors().items()):
                    difference = "other numbers than in another text"
        except (ValueError, TypeError) as error:
            difference = f"cannot be parsed: {error}"
        report.expect(difference is None, f"{name}: {where} and the {model} weights: {difference}")


def _as_shown(parsed: dict[str, Any], stored: Network) -> Network:
    """Return a stored network with the numbers of a text in place of its own."""
    numbers = {name: np.array(values, dtype=np.float64) for name, values in parsed.items()}
    modules = [(name, numbers[f"{name}.weight"], numbers[f"{name}.bias"]) for name, _, _ in stored.modules]
    return Network(stored.activation, modules)


def check_attempts(data: Dataset, measured: dict[int, Measured], highest: dict[int, float], report: Report) -> None:
    report.begin("4 attempts")
    attempts = pq.read_table(data.folder / "attempts.parquet").to_pylist()
    accepted: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in attempts:
        if row["accepted"]:
            accepted[row["example_id"]].append(row)
    report.expect(set(accepted) == set(data.specs), "the accepted attempts are of other examples")
    same = ("patterns", "target_pattern", "num_layers", "neurons_per_layer", "activation_type", "learning_rate")
    for example_id, m in measured.items():
        name, spec, rows = f"example {example_id}", data.specs[example_id], accepted[example_id]
        if len(rows) != 1:
            report.fail(f"{name}: {len(rows)} attempts are accepted")
            continue
        pairs = {key: (rows[0][key], spec[key]) for key in same}
        pairs["attempt"] = (rows[0]["attempt"], spec["accepted_try"])
        for key, (said, is_) in pairs.items():
            report.expect(said == is_, f"{name}: {key} is {said} in attempts and {is_} in specs")
        numbers = {
            "degraded_accuracy": m.degraded[OVERALL].balanced,
            "improved_accuracy": m.improved[OVERALL].balanced,
            "target_gain": m.gain(m.target),
            "worst_other_change": m.worst_other,
            "degraded_yes_share": m.degraded[OVERALL].yes_share,
            "degraded_target_accuracy": m.degraded[m.target].balanced,
            "improved_target_accuracy": m.improved[m.target].balanced,
            "lowest_improved_accuracy": min(m.improved[p].balanced for p in (m.target, *m.others)),
            "highest_unlisted_accuracy": highest.get(example_id),
        }
        slack = 1e-6 + max(m.slack(pattern) for pattern in m.degraded)
        for key, ours in numbers.items():
            said = rows[0].get(key)  # earlier versions have fewer columns
            close = key not in rows[0] or ours is None or (said is not None and abs(said - ours) <= slack)
            report.expect(close, f"{name}: {key} is {said} in attempts, the weights give {ours}")
    report.figures["attempts, of them accepted"] = [len(attempts), sum(map(len, accepted.values()))]


def check_files(folder: Path, report: Report) -> None:
    report.begin("4 files")
    listed = {"manifest.json"}
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]:
        listed.add(entry["path"])
        file = folder / entry["path"]
        if not file.is_file():
            report.fail(f"{entry['path']} is missing")
            continue
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        report.expect(digest == entry["sha256"], f"{entry['path']} is not the file that manifest.json lists")
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    for path in sorted(there - listed):
        report.fail(f"{path} is not in manifest.json")
    report.figures["files"] = len(listed) - 1


# --------------------------------------------------------------------------------------------------------- the report


def check(folder: Path, options: argparse.Namespace) -> Report:
    """Run every check; those that need sound rows and networks are left out when these are not."""
    report = Report()
    check_files(folder, report)
    data = read_dataset(folder)
    report.figures["examples"] = len(data.specs)
    tokens = [data.settings[f"dataset.patterns.{kind}_with_token"] for kind in ("starts", "ends")]
    spaces = cache(lambda vocab, length: Space(vocab, length, *tokens))

    def space_of(spec: dict[str, Any]) -> Space:
        return spaces(spec["vocab_size"], spec["sequence_length"])

    check_networks(data, report)
    check_splits(data, report)
    check_codes(data, report)
    shown = check_records(data, report)
    sound = check_rows(data, space_of, report)
    if not data.specs or sound != set(data.specs) or report.problems["2 networks"]:
        report.begin("2 criteria")
        report.fail("nothing was measured: rows or networks are missing or of the wrong shape")
        return report
    measured, highest = check_criteria(data, shown, space_of, report)
    check_metrics(data, measured, report)
    check_attempts(data, measured, highest, report)
    check_fresh(data, space_of, measured, options, report)
    return report


def print_report(report: Report) -> None:
    for name, value in report.figures.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        print(f"{name}: {value}")
    print()
    for name in sorted(report.checks):
        problems = report.problems[name]
        print(f"{name}: {f'{len(problems)} problems' if problems else 'ok'}")
        for text in problems[:5]:
            print(f"  {text}")
        if len(problems) > 5:
            print(f"  and {len(problems) - 5} more")


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a dataset of weights without actlab.")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--fresh", metavar="N", type=int, default=600, help="fresh rows a side (600)")
    parser.add_argument("--fresh-share", type=float, default=0.9, help="share of examples that must hold on them (0.9)")
    parser.add_argument("--seed", type=int, default=0, help="of the fresh rows (0)")
    parser.add_argument("--json", action="store_true", help="print problems and figures as JSON")
    options = parser.parse_args()
    try:
        report = check(options.folder, options)
    except (UnreadableError, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        print(f"cannot check {options.folder}: {error}", file=sys.stderr)
        return 2
    problems = {name: found for name, found in report.problems.items() if found}
    if options.json:
        print(json.dumps({"ok": not problems, "problems": problems, "figures": report.figures}, indent=1))
    else:
        print_report(report)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
