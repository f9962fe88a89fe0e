import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from actlab.cli.common import EXIT_DROPPED, EXIT_INTERRUPTED, echo
from actlab.ground import options
from actlab.ground.errors import ConfigError, StorageError
from actlab.ground.options import execution

_MODEL = "actlab/tiny"
_SAMPLES = ("Datasets/SPDatasets/SP_sample.jsonl", "Datasets/Sentences/caring.csv", "configs/run_data_gen_quick.yaml")
_COUNTS = {
    "n_documents": "documents",
    "n_tokens": "tokens",
    "n_parameters": "parameters",
    "n_sentences": "sentences",
    "n_passing": "features listed",
    "n_examples": "examples",
}
"""What metadata counts, and how the table calls it."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Where to, and how much."""

    output: str = execution("Demo")
    """The folder for everything that is made. What an earlier demo finished there is kept."""
    tokens: int = execution(60_000)
    """Tokens of text to generate; more make a better model, and take longer."""
    steps: int = execution(300)
    """Training steps of the small GPT."""


class Step(NamedTuple):
    """One command, and what it makes."""

    what: str
    arguments: list[str]
    made: str | None = None
    """The dataset to verify afterwards."""


class Done(NamedTuple):
    """A step that ended well."""

    step: Step
    elapsed_s: float


@options.command(DemoConfig)
def command(config: DemoConfig) -> None:
    """Under five minutes on two cores. Each step's command is printed as one could type it, each result verified.
    The model of the chain is actlab/tiny, trained when it is first wanted; the GPT is a student in its tokens.
    Run it in actlab's own folder, where the sample datasets are.
    """
    if config.tokens < 20_000 or config.steps < 1:
        raise ConfigError("--tokens is at least 20000 and --steps at least 1", hint="see --help")
    if lacking := [name for name in _SAMPLES if not Path(name).is_file()]:
        raise StorageError(f"there is no {lacking[0]}", hint="run the demo in the folder of actlab's repository")
    done = [_run(step) for step in _steps(Path(config.output), config.tokens, config.steps)]
    echo(_table(done))
    echo(_probe_found(Path(config.output) / "probe"))


def _steps(root: Path, tokens: int, steps: int) -> list[Step]:
    """Return the chain: each step reads what an earlier one made."""
    text, refined, tokenised, gpt = (str(root / name) for name in ("text", "refined", "tokens", "gpt"))
    saes, features, split, ranking = (str(root / name) for name in ("saes", "features", "splits.json", "ranking"))
    classifier, probe, sig, weights = (
        str(root / name) for name in ("h3_to_concept.npz", "probe", "sig.json", "weights")
    )
    samples, sentences, networks = _SAMPLES
    dump = str(root / "activations" / "actlab_tiny" / "SP_sample")
    of_tiny = ["--model", _MODEL]
    in_its_tokens = ["--tokenizer", _MODEL]
    half = str(tokens // 2)
    of_networks = ["--config-path", networks]
    small = ["--set", f"signature.dataset_path={sig}", "--set", "dataset.output_dataset_length=40", "--output", weights]
    selection = ["--rows", "mean", "--min-pearson", "0.2", "--min-tpr", "0.2"]
    return [
        Step(
            "text",
            ["generate-text", "simple recipes", "--tokens", str(tokens), *in_its_tokens, "--output", text],
            text,
        ),
        Step("refined text", ["refine-text", text, "--tokens", half, "--output", refined], refined),
        Step("tokens", ["tokenize-text", refined, *in_its_tokens, "--output", tokenised], tokenised),
        Step("a small GPT", ["train-gpt", tokenised, "--steps", str(steps), "--batch-size", "4", "--output", gpt], gpt),
        Step(
            "activations",
            ["extract-activations", *of_tiny, "--dataset", samples, "--output", str(root / "activations")],
            dump,
        ),
        Step(
            "SAEs",
            ["train-sae", *of_tiny, "--input", samples, "--layers", "1,3", "--n-steps", "100", "--output", saes],
            saes,
        ),
        Step(
            "features",
            ["compute-features", *of_tiny, "--input", sentences, "--sae", saes, "--output", features],
            features,
        ),
        Step("a split", ["split", "--input", sentences, "--output", split]),
        Step(
            "a ranking",
            ["rank-features", "--input", features, "--split", split, *selection, "--output", ranking],
            ranking,
        ),
        Step(
            "a classifier dataset",
            [
                *("generate-datasets", "--strategy", "hidden-to-concept", "--input", features, "--layer", "3"),
                *("--rows", "mean", "--split", split, "--output", classifier),
            ],
            classifier,
        ),
        Step("a probe", ["train-probe", "--input", classifier, "--output", probe], probe),
        Step("sequences", ["create-sig-dataset", *of_networks, "--filename", sig]),
        Step("networks' weights", ["run-data-gen", *of_networks, *small], weights),
    ]


def _run(step: Step) -> Done:
    """Run a step in a process of its own, as from a terminal, and verify what it made.

    Raises:
        StorageError: It failed; its own error is above.
    """
    start = time.monotonic()
    _type(step.arguments)
    elapsed_s = time.monotonic() - start
    if step.made is not None:
        _type(["verify", step.made])
    return Done(step, elapsed_s)


def _type(arguments: list[str]) -> None:
    echo(f"$ actlab {shlex.join(arguments)}", err=True)
    ended = subprocess.run([sys.executable, "-m", "actlab", *arguments], stdout=sys.stderr, check=False)
    if ended.returncode in (EXIT_INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if ended.returncode < 0:
        killed = signal.Signals(-ended.returncode).name
        raise StorageError(
            f"actlab {arguments[0]} was ended by {killed}",
            hint="see that there is memory enough; run the demo again to go on",
        )
    if ended.returncode not in (0, EXIT_DROPPED):
        raise StorageError(f"actlab {arguments[0]} failed", hint="its error is above; run the demo again to go on")


def _table(done: list[Done]) -> str:
    width = max(len(one.step.what) for one in done)
    lines = [f"{one.step.what:<{width}}  {one.elapsed_s:6.1f} s  {_size_of(one.step)}".rstrip() for one in done]
    return "\n".join(["", *lines, f"{'all':<{width}}  {sum(one.elapsed_s for one in done):6.1f} s"])


def _size_of(step: Step) -> str:
    """Say where a step's result lies and what its metadata counts."""
    if step.made is None:
        return step.arguments[-1]
    metadata = Path(step.made) / "metadata.json"
    counts = json.loads(metadata.read_text(encoding="utf-8")) if metadata.is_file() else {}
    known = [
        f"{_total(counts[name])} {what}" for name, what in _COUNTS.items() if isinstance(counts.get(name), int | dict)
    ]
    return ", ".join([step.made, *known])


def _total(count: int | dict[str, int]) -> int:
    """Return a count that may be told by kinds, with or without their total."""
    return count if isinstance(count, int) else count.get("total", sum(count.values()))


def _probe_found(folder: Path) -> str:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    auc, interval = results["test_roc_auc"], results["test_roc_auc_interval"]
    if auc is None:
        return "the probe's test set lacks a class: nothing was found"
    if interval is None:
        return f"\nthe probe: test AUROC {auc:.2f}, without an interval: {results['no_intervals_because']}"
    low, high = interval
    verdict = "chance is inside the interval: nothing was shown" if low <= 0.5 <= high else "better than chance"
    return (
        f"\nthe probe: test AUROC {auc:.2f} [{low:.2f}, {high:.2f}]; {verdict if high > 0.5 else 'worse than chance'}"
    )
