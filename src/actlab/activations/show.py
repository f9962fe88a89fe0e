"""What a dump is, how large, and how its layers' norms run."""

from collections.abc import Mapping
from pathlib import Path

import torch

from actlab.formats.activations import KIND, Activations, open_activations, splits_of
from actlab.ground.errors import StorageError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.verify import sizes_of

_ROWS_SAMPLED = 2048


def show_activations(folder: Path) -> dict[str, object]:
    """Return a description of a dump, as JSON: a dataset's folder, or one split's.

    Norms are over at most 2,048 rows of each split and layer, evenly spaced.

    Raises:
        StorageError: There is no finished dump.
    """
    splits = splits_of(folder)
    if not splits:
        open_activations(folder)
        raise StorageError(f"{folder} has no splits", hint="actlab verify DIR tells what is missing")
    opened = {name: Activations(split) for name, split in splits.items()}
    first = next(iter(opened.values())).metadata
    manifest: Mapping[str, object] = sealed_manifest(next(iter(splits.values())).parent) or {}
    return {
        "kind": KIND,
        "path": str(folder),
        "model_name": first.get("model_name"),
        "dataset_name": first.get("dataset_name"),
        "num_layers": first.get("num_layers"),
        "hidden_dim": first.get("hidden_dim"),
        "position": first.get("position", "last"),
        **sizes_of(*splits.values()),
        "fingerprint": manifest.get("fingerprint"),
        "made_on": manifest.get("made_on", []),
        "dropped": manifest.get("dropped", {}),
        "splits": {name: _describe(acts) for name, acts in opened.items()},
    }


def _describe(acts: Activations) -> dict[str, object]:
    rows = len(acts)
    return {
        "rows": rows,
        "shards": len(acts.rows_per_shard),
        "truncated_examples": acts.metadata.get("truncated_examples"),
        "dtype": str(acts.dtype).removeprefix("torch."),
        "rows_sampled": min(rows, _ROWS_SAMPLED),
        "layers": {layer: _norms(acts, layer) for layer in acts.layers},
    }


def _norms(acts: Activations, layer: int) -> dict[str, float | None]:
    """Return mean and standard deviation of the rows' norms, and the largest value, of one layer."""
    if not len(acts):
        return {"norm_mean": None, "norm_std": None, "max_abs": None}
    sampled = torch.linspace(0, len(acts) - 1, min(len(acts), _ROWS_SAMPLED)).round().long()
    rows_nd = acts[layer][sampled].float()
    norms_n = rows_nd.norm(dim=1)
    return {
        "norm_mean": float(norms_n.mean()),
        "norm_std": float(norms_n.std(correction=0)),
        "max_abs": float(rows_nd.abs().max()),
    }
