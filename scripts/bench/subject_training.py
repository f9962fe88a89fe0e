"""What training subject networks costs: a DataLoader loop, a plain tensor loop, and `train_many`.

    python scripts/bench/subject_training.py [--rounds 3] [--networks 128] [--device cpu|cuda|mps]

The same specs, 400 rows, batches of 128, 20 epochs over both stages, no early end; at the reference sizes (7 layers
of 32) and at 5 layers of 7. The loops train the first few of the networks, as they are slow. All run in this process,
in turn, on one thread; CPU seconds of the process by network, medians over the rounds, ratios taken within a round.
On another device: networks per second by the number trained at once.

Then the whole of `run-data-gen` on one worker, from the settings to the sealed dataset: CPU seconds by attempted and
by accepted example, with the quick config and with 256 examples of the good values (`--no-pipeline` leaves it out).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import actlab
from actlab.weights.networks import Architecture, initial_weights
from actlab.weights.training.batched import train_many
from actlab.weights.training.spec import Schedule, Trained, TrainingSpec

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.reference_training import train_one

SCHEDULE = Schedule(min_improvement_threshold=1e9, patience=10**9)
N_ROWS, N_VALIDATION = 400, 100
UNIT_SIZES = (16, 64, 256, 1024)


class Size(NamedTuple):
    """A shape of network, and how many times cheaper `train_many` has to be."""

    name: str
    n_layers: int
    n_neurons: int
    than_plain: float
    than_loader: float


SIZES = (Size("7 layers of 32", 7, 32, 4, 7), Size("5 layers of 7", 5, 7, 10, 15))


class Sequences(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rows as such programs keep them; the tensors are made beforehand, as the careful ones do."""

    def __init__(self, tokens: np.ndarray, labels: np.ndarray) -> None:
        self.tokens, self.labels = torch.from_numpy(tokens).float(), torch.from_numpy(labels).float()

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tokens[index], self.labels[index]


def make_specs(size: Size, n_networks: int) -> list[TrainingSpec]:
    """ReLU and GELU in turn; rows say whether the first letter is before the last, a fifth of the labels wrong."""
    specs = []
    for number in range(n_networks):
        rng = np.random.default_rng(number)
        architecture = Architecture(7, 7, size.n_layers, size.n_neurons, ("relu", "gelu")[number % 2])
        train, validation = (rng.integers(0, 7, (n, 7)).astype(np.uint8) for n in (N_ROWS, N_VALIDATION))
        clean, known = train[:, 0] < train[:, -1], validation[:, 0] < validation[:, -1]
        corrupted = clean ^ (rng.random(N_ROWS) < 0.2)
        rate = float(np.exp(rng.uniform(np.log(0.001), np.log(0.01))))
        initial = initial_weights(architecture, rng)
        specs.append(TrainingSpec(architecture, initial, rate, number, train, corrupted, clean, validation, known))
    return specs


def by_loader(specs: Sequence[TrainingSpec]) -> list[float]:
    """Train one by one with Dataset and DataLoader; return the last validation accuracies."""
    return [_by_loader(spec) for spec in specs]


def _by_loader(spec: TrainingSpec) -> float:
    modules: list[nn.Module] = []
    for o, i in spec.architecture.sizes:
        modules += [nn.Linear(i, o), nn.ReLU() if spec.architecture.activation_type == "relu" else nn.GELU()]
    network, criterion, accuracy = nn.Sequential(*modules[:-1]), nn.BCEWithLogitsLoss(), 0.0
    validation = DataLoader(Sequences(spec.validation_tokens, spec.validation_labels), SCHEDULE.batch_size)
    for labels, factor in ((spec.corrupted_labels, 1.0), (spec.clean_labels, SCHEDULE.improvement_lr_factor)):
        train = DataLoader(Sequences(spec.train_tokens, labels), SCHEDULE.batch_size, shuffle=True)
        optimizer = torch.optim.Adam(network.parameters(), lr=spec.learning_rate * factor)
        for _ in range(SCHEDULE.epochs // 2):
            network.train()
            for inputs, targets in train:
                optimizer.zero_grad()
                loss = criterion(network(inputs).squeeze(-1), targets)
                loss.backward()
                optimizer.step()
            network.eval()
            total_loss, n_right = 0.0, 0
            with torch.no_grad():
                for inputs, targets in validation:
                    logits = network(inputs).squeeze(-1)
                    total_loss += criterion(logits, targets).item()
                    n_right += int(((logits > 0) == (targets > 0)).sum().item())
            accuracy = n_right / len(spec.validation_labels)
    return accuracy


def by_plain_loop(specs: Sequence[TrainingSpec]) -> list[float]:
    """Train one by one on tensors."""
    return last_accuracies([train_one(spec, SCHEDULE) for spec in specs])


def together(specs: Sequence[TrainingSpec]) -> list[float]:
    """Train all at once."""
    return last_accuracies(train_many(specs, SCHEDULE))


def last_accuracies(trained: Sequence[Trained]) -> list[float]:
    return [one.history[-1].validation_accuracy for one in trained]


def milliseconds(way: Callable[[Sequence[TrainingSpec]], list[float]], specs: Sequence[TrainingSpec]) -> float:
    """Return the CPU milliseconds that one network takes."""
    start = time.process_time()
    accuracies = way(specs)
    spent = time.process_time() - start
    assert statistics.mean(accuracies) > 0.6, "nothing was learnt"
    return spent / len(specs) * 1000


def compare(size: Size, *, n_networks: int, n_looped: int, rounds: int) -> None:
    """Print one line: the three ways at one size."""
    specs = make_specs(size, n_networks)
    for way in (by_loader, by_plain_loop, together):
        way(specs[:2])
    measured = []
    for _ in range(rounds):
        loader, plain = milliseconds(by_loader, specs[:n_looped]), milliseconds(by_plain_loop, specs[:n_looped])
        measured.append((loader, plain, milliseconds(together, specs)))
    loader, plain, ours = (statistics.median(column) for column in zip(*measured, strict=True))
    than_plain = statistics.median(one[1] / one[2] for one in measured)
    than_loader = statistics.median(one[0] / one[2] for one in measured)
    missed = than_plain < size.than_plain or than_loader < size.than_loader
    print(
        f"{size.name:<16}{loader:>12.1f}{plain:>12.1f}{ours:>12.2f}"
        f"{than_loader:>14.1f} (of {size.than_loader:.0f}){than_plain:>10.1f} (of {size.than_plain:.0f})"
        f"{'  MISSED' if missed else ''}",
        flush=True,
    )


def per_second(size: Size, device: str) -> None:
    """Print networks per second of wall time on a device, by unit size; the first call warms it up."""
    for n_networks in UNIT_SIZES:
        specs = make_specs(size, n_networks)
        train_many(specs, SCHEDULE, device=device)
        start = time.perf_counter()
        train_many(specs, SCHEDULE, device=device)  # results are numpy arrays: all is done when it returns
        rate = n_networks / (time.perf_counter() - start)
        print(f"{size.name:<16}{n_networks:>6} at once{rate:>12.1f} networks/s on {device}", flush=True)


def whole_pipeline(config: str, **changes: object) -> None:
    """Print one line: what run-data-gen takes with a config that ships."""
    path = Path(__file__).parents[2] / "configs" / config
    with tempfile.TemporaryDirectory() as folder:
        settings = {"config_path": path, "quiet": True, "workers": 1, "signature.dataset_path": f"{folder}/sig.json"}
        actlab.create_sig_dataset(config_path=path, filename=f"{folder}/sig.json", size=200)
        start = time.process_time()
        done = actlab.run_data_gen(**settings, **{"pipeline.output_dir": f"{folder}/out", **changes})
        spent = time.process_time() - start
        metadata = json.loads((done.path / "metadata.json").read_text())
        n_bytes = sum(file.stat().st_size for file in done.path.rglob("*") if file.is_file())
    print(
        f"{config:<28}{metadata['n_examples']:>6} of {metadata['n_attempts']} accepted"
        f"{1000 * spent / (metadata['n_attempts'] + metadata['n_surplus']):>9.1f} CPU ms a network"
        f"{1000 * spent / metadata['n_examples']:>9.1f} CPU ms an accepted example"
        f"{n_bytes / metadata['n_examples'] / 1000:>8.0f} kB an example; accuracy "
        f"{metadata['median_degraded_accuracy']} to {metadata['median_improved_accuracy']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=128, help="trained at once")
    parser.add_argument("--looped", type=int, default=8, help="trained one by one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-pipeline", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.device != "cpu":
        for size in SIZES:
            per_second(size, options.device)
        return
    print(f"CPU ms a network; {options.networks} at once, {options.looped} one by one, medians of {options.rounds}")
    print(f"{'':<16}{'DataLoader':>12}{'plain':>12}{'train_many':>12}{'times cheaper than DataLoader, plain':>40}")
    for size in SIZES:
        compare(size, n_networks=options.networks, n_looped=options.looped, rounds=options.rounds)
    if not options.no_pipeline:
        whole_pipeline("run_data_gen_quick.yaml")
        whole_pipeline("run_data_gen.yaml", **{"dataset.output_dataset_length": 256})


if __name__ == "__main__":
    main()
