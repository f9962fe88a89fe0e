"""A dataset of weights small enough to make in a test: networks of at most 241 parameters."""

import copy
import functools
import pickle
from pathlib import Path

SETTINGS = {
    "model": {
        "num_layers": {"min": 1, "max": 2},
        "neurons_per_layer": {"min": 8, "max": 12},
        "vocab_size": 6,
        "sequence_length": 5,
        "learning_rate": {"min": 0.01, "max": 0.03},
    },
    "dataset": {
        "output_dataset_length": 6,
        "patterns": {
            "enabled_patterns": [
                *("palindrome", "sorted_ascending", "starts_with", "ends_with", "no_repeats", "first_last_match")
            ],
            "min_patterns_per_batch": 2,
            "max_patterns_per_batch": 2,
            "target_total_examples": 240,
        },
    },
    "training": {"batch_size": 32, "epochs": 30},
    "staged_training": {
        "max_degraded_epochs": 15,
        "min_improvement_threshold": 0.15,
        "improvement_epochs": 15,
        "improvement_lr_factor": 0.5,
        "corruption_rate": 0.9,
    },
    "validation": {"test_set_size": 60},
    "pipeline": {"checkpoint_interval": 3, "random_seed": 5},  # a seed of few tries and of three splits
    "task_generation": {"include_classification": True},
    "metrics": {"tensorboard": {"enabled": False}},
}


def settings(folder: Path, **changes) -> dict:
    """Return the settings with an output and a signature dataset in a folder, and dotted changes."""
    from actlab.weights.sequence_sets import create_sig_dataset

    chosen = copy.deepcopy(SETTINGS)
    for name, value in {"pipeline.output_dir": str(folder / "out"), **changes}.items():
        *path, key = name.split(".")
        place = chosen
        for step in path:
            place = place.setdefault(step, {})
        place[key] = value
    if "signature" not in chosen or "dataset_path" not in chosen["signature"]:
        groups = {name: group for name, group in chosen.items() if isinstance(group, dict)}
        made = create_sig_dataset(**groups, filename=folder / "sig.json", size=40)
        chosen.setdefault("signature", {})["dataset_path"] = str(made.path)
    return chosen


def make(folder: Path, **changes):
    """Make a dataset in a folder and return what the run says."""
    from actlab.weights.job import run_data_gen

    return run_data_gen(**settings(folder, **changes))


@functools.cache
def _trained(pickled: bytes):
    from actlab.weights.training.batched import train_many

    specs, schedule, device = pickle.loads(pickled)
    return train_many(specs, schedule, device=device)


def train_once(specs, schedule, *, device):
    """As `train_many` does, but the very same networks are trained once a process."""
    return copy.deepcopy(_trained(pickle.dumps((specs, schedule, device))))
