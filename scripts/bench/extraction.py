"""What extracting costs: the naive way, the seed document's way, actlab, and the floor.

    python scripts/bench/extraction.py [--rounds 5] [--ways c,d,half]

Each way runs in a process of its own, the ways in turn, round after round, on the same model folder and the
same texts. Figures are taken from the start of the work (loading the model included, imports not) to its end
(files written). Ratios are taken within a round, and medians over the rounds.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "a": "naive: whole model, output_hidden_states, padded batches of 32 in file order",
    "b": "the seed's: backbone with hooks, left-padded batches of 32 in file order",
    "c": "actlab",
    "d": "the floor: the same blocks on actlab's batches, nothing captured or written",
    "half": "actlab with --layers on the first half",
}
N_EXAMPLES = 128
N_LAYERS = 6
MAX_TOKENS = 1024


def make_world(folder: Path) -> None:
    """Build the model (about 50 M parameters, 32k vocabulary) and the texts (median 120 tokens)."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {f"w{k}": k for k in range(32000)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0").save_pretrained(folder / "model")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000,
            hidden_size=512,
            intermediate_size=1376,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=8,
            max_position_embeddings=MAX_TOKENS,
        )
    )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 45e6 < n_parameters < 60e6, n_parameters
    model.save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(120), 0.8, N_EXAMPLES), 12, 1000).astype(int)
    lengths[rng.choice(N_EXAMPLES, 3, replace=False)] = 1000
    with open(folder / "texts.jsonl", "w") as file:
        for length in lengths:
            words_of = [f"w{k}" for k in rng.integers(1, 32000, length)]
            row = {"prompt": " ".join(words_of[: length // 3]), "EM": " ".join(words_of[length // 3 :])}
            file.write(json.dumps(row) + "\n")


def read_texts(folder: Path) -> list[str]:
    rows = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
    return [row["prompt"] + "\n" + row["EM"] for row in rows]


def save(rows, out: Path) -> None:
    import torch

    for layer, tensors in enumerate(rows):
        folder = out / f"layer_{layer:02d}"
        folder.mkdir(parents=True)
        torch.save(torch.cat(tensors).half(), folder / "shard_000.pt")


def naive(folder: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    texts = read_texts(folder)
    rows: list[list] = [[] for _ in range(N_LAYERS)]
    for start in range(0, len(texts), 32):
        batch = tokenizer(
            texts[start : start + 32],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
        )
        with torch.no_grad():
            output = model(**batch, output_hidden_states=True)
        last = batch["attention_mask"].sum(1) - 1
        for layer in range(N_LAYERS):
            rows[layer].append(output.hidden_states[layer + 1][torch.arange(len(last)), last])
    save(rows, out)


def seeds_way(folder: Path, out: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    model = AutoModel.from_pretrained(folder / "model").eval()
    texts = read_texts(folder)
    rows: list[list] = [[] for _ in range(N_LAYERS)]

    def hook_for(layer: int):
        def hook(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            rows[layer].append(hidden[:, -1].clone())

        return hook

    for layer, block in enumerate(model.layers):
        block.register_forward_hook(hook_for(layer))
    for start in range(0, len(texts), 32):
        batch = tokenizer(
            texts[start : start + 32],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
        )
        with torch.no_grad():
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    save(rows, out)


def actlab_way(folder: Path, out: Path, layers: str = "all") -> None:
    import actlab

    actlab.extract_activations(
        model=folder / "model",
        dataset=folder / "texts.jsonl",
        output=out,
        splits="EM",
        layers=layers,
        quiet=True,
    )


def floor(folder: Path, out: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from actlab.activations.config import ExtractConfig
    from actlab.backends.batches import plan_batches

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModel.from_pretrained(folder / "model").eval()
    ids = tokenizer(read_texts(folder))["input_ids"]
    defaults = ExtractConfig()
    batches = plan_batches(
        [len(one) for one in ids], batch_size=defaults.batch_size, batch_tokens=defaults.batch_tokens
    )
    for batch in batches:
        longest = max(len(ids[k]) for k in batch)
        padded = torch.tensor([ids[k] + [0] * (longest - len(ids[k])) for k in batch])
        with torch.inference_mode():
            model(input_ids=padded, use_cache=False)


def run_one(way: str, folder: Path) -> None:
    """Run one way in this process and print its figures."""
    import torch  # noqa: F401 - imports are not what is compared
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, LlamaModel  # noqa: F401

    import actlab.activations.job  # noqa: F401

    ways = {
        "a": naive,
        "b": seeds_way,
        "c": actlab_way,
        "d": floor,
        "half": lambda folder, out: actlab_way(folder, out, f"0-{N_LAYERS // 2 - 1}"),
    }
    n_tokens = sum(len(text.split()) for text in read_texts(folder))
    with tempfile.TemporaryDirectory() as out:
        cpu, wall = time.process_time(), time.perf_counter()
        ways[way](folder, Path(out) / "dump")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "tokens_per_s": n_tokens / wall, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS), help="only these, separated by commas")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one, arguments.world)
        return
    with tempfile.TemporaryDirectory() as world:
        make_world(Path(world))
        figures: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.ways.split(",")}
        for round_number in range(arguments.rounds):
            for way in figures:
                command = [sys.executable, __file__, "--one", way, "--world", world]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**os.environ, "HF_HUB_OFFLINE": "1"},
                )
                if done.returncode:
                    sys.exit(f"{way} failed:\n{done.stderr}")
                figures[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {round_number + 1} of {arguments.rounds}", file=sys.stderr)
    report(figures)


def report(figures: dict[str, list[dict[str, float]]]) -> None:
    def median(way: str, key: str) -> float:
        return statistics.median(one[key] for one in figures[way])

    def ratio(way: str, other: str) -> float:
        return statistics.median(x["cpu_s"] / y["cpu_s"] for x, y in zip(figures[way], figures[other], strict=True))

    print(f"medians over {len(next(iter(figures.values())))} interleaved rounds")
    print("way    tokens/s   CPU s   peak MB")
    for way in figures:
        cells = (median(way, key) for key in ("tokens_per_s", "cpu_s", "peak_mb"))
        print("{:<5} {:>9.0f} {:>7.2f} {:>9.0f}   {}".format(way, *cells, WAYS[way]))
    print("CPU seconds, medians of the ratios within a round")
    for way, other, wanted in (
        ("c", "a", 1 / 2.2),
        ("c", "b", 1 / 1.4),
        ("c", "d", 1.12),
        ("half", "c", 0.56),
    ):
        if way in figures and other in figures:
            print(f"  {way}/{other} = {ratio(way, other):.3f}   (wanted: at most {wanted:.3f})")
    if {"a", "c"} <= figures.keys():
        print(f"peak memory c/a = {median('c', 'peak_mb') / median('a', 'peak_mb'):.3f}   (wanted: below 1)")


if __name__ == "__main__":
    main()
