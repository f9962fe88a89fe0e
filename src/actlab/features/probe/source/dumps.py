"""Rows from two activation dumps, one a class."""

# n sample, f feature (the model's width)

import numpy as np
import torch
from jaxtyping import Float, Int

from actlab.features.probe.config import ProbeConfig
from actlab.features.probe.source.samples import Samples, group_numbers
from actlab.formats.activations import EXAMPLES, Activations, open_activations
from actlab.formats.groups import equal_rows, joined
from actlab.ground.errors import DataError
from actlab.ground.hashes import sha256_of
from actlab.ground.integrity import damage, sealed_manifest
from actlab.ground.layers import parse_layers
from actlab.ground.manifest import METADATA, InputEntry, Stored, damaged_files, fingerprint, stored_files
from actlab.ground.storage import safe_name

_ALIKE = ("model_name", "hidden_dim", "num_layers", "position", "load_in_4bit", "hook", "text")
"""What both dumps must agree in: a difference would tell the classes apart by itself."""


def read_dumps(config: ProbeConfig) -> Samples:
    """Open two dumps: the rows of `--negative` are class 0 and come first, those of `--positive` class 1.

    Raises:
        ActlabError: One is no dump or empty, they do not belong together, or a layer is not in both.
    """
    assert config.positive is not None
    assert config.negative is not None
    negative, positive = (open_activations(one) for one in (config.negative, config.positive))
    _check_pair(negative, positive)
    layers, layer_notes = _layers(negative, positive, config.layers)
    inputs = [_described("positive", positive), _described("negative", negative)]
    groups, confounds, notes = _rows(negative, positive)
    names = [str(dump.metadata.get("dataset_name") or dump.folder.parent.name) for dump in (positive, negative)]
    name = safe_name("_vs_".join(dict.fromkeys(names)), "dataset")
    return Samples(
        name=name,
        y=np.repeat(np.array([0, 1]), [len(negative), len(positive)]),
        groups=joined(groups, equal_rows(_read(negative, positive, layers[-1]))),
        layers=layers,
        n_features=positive.hidden_dim,
        read=lambda layer: _read(negative, positive, layer),
        about={
            "dataset_path": name,
            "dataset_hash": fingerprint([entry["sha256"] for entry in inputs]),
            "n_samples": len(negative) + len(positive),
            "n_features": positive.hidden_dim,
            "meta_strategy": "activations",
            "model_name": positive.metadata.get("model_name"),
            "positive": positive.split,
            "negative": negative.split,
            "position": positive.metadata.get("position"),
        },
        inputs=inputs,
        notes=(*layer_notes, *notes),
        confounds=confounds,
    )


def _check_pair(negative: Activations, positive: Activations) -> None:
    if negative.folder.resolve() == positive.folder.resolve():
        raise DataError(f"both classes are {positive.folder}", hint="give two splits, as in DUMP/EM and DUMP/Neutral")
    for dump in (negative, positive):
        if not len(dump):
            raise DataError(f"{dump.folder} is empty", hint="its metadata.json says what was dropped, and why")
    for key in _ALIKE:
        here, there = positive.metadata.get(key), negative.metadata.get(key)
        if here != there and None not in (here, there):
            raise DataError(
                f"the dumps differ in {key}: {here!r} and {there!r}",
                hint="extract both with the same model and settings",
            )


def _layers(negative: Activations, positive: Activations, spec: str) -> tuple[tuple[int, ...], list[str]]:
    """Return the layers to fit probes on, and where all were asked for, which ones only one dump has."""
    saved = sorted(set(negative.layers) & set(positive.layers))
    layers = tuple(saved) if spec.strip() == "all" else parse_layers(spec, int(positive.metadata["num_layers"]))
    lacking = [layer for layer in layers if layer not in saved]
    if lacking or not layers:
        what = f"layer {lacking[0]} is not in both dumps" if lacking else "the dumps share no layer"
        raise DataError(what, hint="saved in both: " + (", ".join(map(str, saved)) or "none"))
    single = ", ".join(map(str, sorted(set(negative.layers) ^ set(positive.layers))))
    return layers, [f"only one of the dumps has the layers {single}"] if single and spec == "all" else []


def _rows(
    negative: Activations, positive: Activations
) -> tuple[Int[np.ndarray, " n"], dict[str, Int[np.ndarray, " n"]], tuple[str, ...]]:
    """Return each row's group, what may confound the classes, and what there is to say about both."""
    dumps = (negative, positive)
    if not all((dump.folder / EXAMPLES).is_file() for dump in dumps):
        note = (
            f"a dump has no {EXAMPLES}: rows of the same number were taken for the same prompt, "
            "and length and last token could not be checked"
        )
        return np.concatenate([np.arange(len(dump)) for dump in dumps]), {}, (note,)
    for dump in dumps:
        if len(dump.examples) != len(dump):
            raise DataError(
                f"{dump.folder} has {len(dump)} rows and {len(dump.examples)} examples", hint="run actlab verify DIR"
            )
        if dump.examples["prompt_id"].isna().any():
            raise DataError(
                f"{dump.folder / EXAMPLES} has rows without a prompt_id, so which prompts are equal is not known",
                hint="extract again, or remove the table: rows of the same number are then one prompt",
            )
    confounds, notes = {}, []
    for name, word in (("n_tokens", "length"), ("last_token_id", "last token")):
        columns = [dump.examples[name] for dump in dumps]
        if any(column.isna().any() for column in columns):
            notes.append(f"{EXAMPLES} does not say each row's {word}: what that alone tells was not checked")
        else:
            confounds[name] = np.concatenate([column.to_numpy() for column in columns])
    prompts = np.concatenate([dump.examples["prompt_id"].to_numpy().astype(str) for dump in dumps])
    return group_numbers(prompts), confounds, tuple(notes)


def _read(negative: Activations, positive: Activations, layer: int | None) -> Float[np.ndarray, "n f"]:
    assert layer is not None
    parts = [dump[layer][:] for dump in (negative, positive)]
    if any(part.shape[1] != positive.hidden_dim for part in parts):
        raise DataError(f"layer {layer} is not as wide as metadata.json says", hint="run actlab verify DIR")
    rows: Float[np.ndarray, "n f"] = torch.cat([part.double() for part in parts]).numpy()
    if not np.isfinite(rows).all():
        raise DataError(f"layer {layer} holds NaN or inf", hint="extract again, with --dtype bfloat16 or float32")
    return rows


def _described(role: str, dump: Activations) -> InputEntry:
    """Return a split's name, bytes and one sha256 over those of its files: the manifest's, or taken here.

    Raises:
        StorageError: The manifest does not name one of them.
    """
    dataset, manifest = dump.folder.parent, sealed_manifest(dump.folder.parent)
    shards = [path for layer in dump for path in dump.shard_paths(layer)]
    paths = [*shards, *(path for name in (METADATA, EXAMPLES) if (path := dump.folder / name).is_file())]
    listed = [] if manifest is None else stored_files(manifest)
    files = [file for file in listed if file.path.startswith(f"{dump.folder.name}/")]
    if not files:
        files = [Stored(path.relative_to(dataset).as_posix(), path.stat().st_size, sha256_of(path)) for path in paths]
    named = {dataset / file.path for file in files}
    if strange := [path for path in paths if path not in named]:
        raise damage(dataset, strange[0].relative_to(dataset).as_posix(), "the manifest does not name it")
    if found := damaged_files(dataset, files):  # also of a layer that is not read: its hash is part of the identity
        raise damage(dataset, *found[0].split(" ", 1))
    return {
        "role": role,
        "name": dump.folder.name,
        "bytes": sum(file.bytes for file in files),
        "sha256": fingerprint(sorted((file.path, file.sha256) for file in files)),
    }
