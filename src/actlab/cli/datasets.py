"""`show`, `verify` and `seal`: what every kind of dataset answers to."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from actlab.cli.common import EXIT_DROPPED, echo, format_bytes
from actlab.ground import storage
from actlab.ground.errors import ActlabError, ConfigError, StorageError
from actlab.ground.limits import refuse_pipe
from actlab.ground.made_on import unlike_parts
from actlab.ground.manifest import METADATA, n_dropped, read_json, read_manifest
from actlab.ground.options import argument, command, execution
from actlab.ground.printing import printable_line


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What to show."""

    dir: str = argument()
    """A dataset's folder, one split's, a .partial, a root of datasets, a classifier dataset's file, or a grammar's."""
    json: bool = execution(False)
    """Print everything as JSON."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify, and how deeply."""

    dir: str = argument()
    """A dataset's folder, or a classifier dataset's file."""
    recompute: int = execution(0)
    """Run the model again on so many rows of each split and compare."""
    model: str | None = execution(None)
    """Where the model is, if not under the name in the manifest."""
    dataset: str | None = execution(None)
    """Where the source file is, if not in Datasets/SPDatasets."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to recompute."""
    quiet: bool = execution(False)
    """Show no bar."""
    json: bool = execution(False)
    """Print the findings as JSON."""


@dataclass(frozen=True, kw_only=True)
class SealConfig:
    """What to seal."""

    dir: str = argument()
    """A dataset's folder or its .partial."""
    overwrite: bool = execution(False)
    """Replace an older dataset of that name."""


@dataclass(frozen=True)
class _Kind:
    """Who answers for a kind of dataset: module and function, imported when needed."""

    show: str
    verify: str
    finish: str


def _of_features(finish: str) -> _Kind:
    inspect = "actlab.features.inspect"
    return _Kind(show=f"{inspect}:show_features", verify=f"{inspect}:verify_features", finish=finish)


_TEXT = _Kind(
    show="actlab.text.inspect:show_text",
    verify="actlab.text.inspect:verify_text",
    finish="actlab.ground.storage:finish_single",
)
_ROW_SUFFIXES = (".npz", ".parquet")
_GRAMMAR_SUFFIXES = (".yaml", ".yml", ".txt")

_KINDS = {
    "activations": _Kind(
        show="actlab.activations.show:show_activations",
        verify="actlab.activations.verify.run:verify_activations",
        finish="actlab.activations.sink:finish",
    ),
    "sentence-features": _of_features("actlab.features.encode.sink:finish"),
    "saes": _of_features("actlab.features.train_sae.run:finish"),
    "feature-ranking": _of_features("actlab.ground.storage:finish_single"),
    "probe": _of_features("actlab.ground.storage:finish_single"),
    "weights": _Kind(
        show="actlab.weights.inspect:show_weights",
        verify="actlab.weights.inspect:verify_weights",
        finish="actlab.weights.sink:finish",
    ),
    "text": _TEXT,
    "tokens": _TEXT,
    "gpt": _TEXT,
}


def _load(where: str) -> Callable[..., Any]:
    module, name = where.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _kind_of(folder: Path) -> _Kind:
    """Return who answers for a path; what another program wrote has no manifest."""
    if folder.is_file() or any(folder.glob("sentence_*.npz")):
        return _KINDS["sentence-features"]
    for place in (folder, folder.parent):
        manifest = read_manifest(place)
        if manifest is not None:
            if manifest["kind"] not in _KINDS:
                raise StorageError(
                    f"{folder} is a dataset of kind {manifest['kind']!r}",
                    hint="a newer actlab made it: upgrade",
                )
            return _KINDS[manifest["kind"]]
    return _KINDS.get(_told_kind(folder), _KINDS["activations"])


def _told_kind(folder: Path) -> str:
    """Return the kind of which a dataset's own metadata speaks; "" where there is none that can be read."""
    with contextlib.suppress(StorageError):
        match read_json(folder / METADATA):
            case {"kind": str(kind)}:
                return kind
    return ""


def _existing(path: str) -> Path:
    folder = Path(os.path.expanduser(path))
    if folder.is_file() and folder.suffix in _ROW_SUFFIXES:
        return folder
    if folder.is_file():
        raise StorageError(
            f"{path} is a file of another kind", hint="name a dataset's folder, an NPZ or a Parquet file"
        )
    if not folder.is_dir():
        refuse_pipe(folder)
        raise StorageError(
            f"there is no folder {path}",
            hint="name a dataset's folder, or a classifier dataset's file; show also takes a grammar, as cooking",
        )
    return folder if folder.name not in ("", "..") else folder.resolve()


@command("show", ShowConfig)
def show(config: ShowConfig) -> None:
    """Show what a dataset is (its source, its sizes, its layers' norms), or what a grammar can say.

    A grammar is named by its file, or by the domain for which it ships: cooking, general, poetry, technical.
    """
    if _is_grammar(config.dir):
        described = _load("actlab.text.inspect:show_grammar")(config.dir)
        echo(json.dumps(described, indent=2) if config.json else _as_list(described))
        return
    folder = _existing(config.dir)
    if (folder / "plan.json").is_file():
        _show_partial(folder, as_json=config.json)
        return
    inside = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/manifest.json"))
    if inside and read_manifest(folder) is None:
        described = [_described(path) for path in inside]
        echo(json.dumps(described, indent=2) if config.json else "\n".join(map(_as_line, described)))
        return
    described = _load(_kind_of(folder).show)(folder)
    as_text = _as_text if described["kind"] == "activations" else _as_list
    echo(json.dumps(described, indent=2) if config.json else as_text(described))


def _is_grammar(name: str) -> bool:
    """Whether a path or a name can only be a grammar's: a file that no dataset is, or the domain of one that ships."""
    path = Path(os.path.expanduser(name))
    if path.exists():
        return path.is_file() and path.suffix.lower() in _GRAMMAR_SUFFIXES
    domains: list[str] = _load("actlab.text.templates.read:domains")()
    return path.suffix.lower() in _GRAMMAR_SUFFIXES or name in domains


def _described(path: Path) -> dict[str, Any]:
    """Describe one of several datasets; what is wrong with one does not hide the others."""
    try:
        described: dict[str, Any] = _load(_kind_of(path).show)(path)
    except ActlabError as error:
        return {"path": str(path), "error": str(error)}
    return described


def _as_line(one: dict[str, Any]) -> str:
    if "error" in one:
        return f"{one['path']}: WRONG {one['error']}"
    if "splits" not in one:
        return f"{one['path']}: {one['kind']}, {format_bytes(one['n_bytes'])}"
    rows = ", ".join(f"{name} {split['rows']} rows" for name, split in one["splits"].items())
    return f"{one['path']}: {one['kind']}, {rows}, {format_bytes(one['n_bytes'])}"


def _show_partial(folder: Path, *, as_json: bool) -> None:
    plan = storage.read_plan(folder)
    assert plan is not None
    done = len(list((folder / "units").glob("[0-9]*.json")))
    state = {"kind": plan.kind, "path": str(folder), "units_done": done, "units": len(plan.units)}
    text = f"{folder}: {plan.kind} in the making, {done} of {len(plan.units)} units done"
    echo(json.dumps(state, indent=2) if as_json else text)


def _as_list(one: dict[str, Any]) -> str:
    """Return one line a key, long values cut."""
    lines, width = [one["path"]], max(20, *map(len, one))
    for key, value in one.items():
        text = format_bytes(value) if key == "n_bytes" else json.dumps(value, ensure_ascii=False)
        if key != "path":
            lines.append(f"  {key:<{width}} {text if len(text) <= 100 else text[:97] + '...'}")
    return "\n".join(lines + _unlike(one))


def _unlike(one: dict[str, Any]) -> list[str]:
    """Say where a dataset's units were not all made on the same versions and machines."""
    unlike = unlike_parts(one.get("made_on", []))
    return [f"  units were made under different versions or machines: {'; '.join(unlike)}"] if unlike else []


def _as_text(one: dict[str, Any]) -> str:
    lines = [
        one["path"],
        f"  {one['kind']} of {one['model_name']} ({one['num_layers']} layers, width {one['hidden_dim']}) "
        f"on {one['dataset_name']}, position {one['position']}",
        f"  {one['n_files']} files, {format_bytes(one['n_bytes'])}",
    ]
    for made in one["made_on"]:
        lines.append("  made with " + ", ".join(f"{key} {value}" for key, value in made.items()))
    lines += _unlike(one)
    lines += [f"  dropped {count}: {reason}" for reason, count in one["dropped"].items()]
    lines += ["", "  split          rows  shards  dtype     cut short"]
    for name, split in one["splits"].items():
        cut = "?" if split["truncated_examples"] is None else split["truncated_examples"]
        lines.append(f"  {name:<12} {split['rows']:>6} {split['shards']:>7}  {split['dtype']:<9} {cut:>8}")
    names = list(one["splits"])
    lines += ["", "  norm of a row, mean ± std; largest value"]
    lines.append("  layer  " + "  ".join(f"{name:<28}" for name in names))
    layers = sorted({layer for split in one["splits"].values() for layer in split["layers"]})
    for layer in layers:
        cells = (_cell(one["splits"][name]["layers"].get(layer)) for name in names)
        lines.append(f"  {layer:>5}  " + "  ".join(f"{cell:<28}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(norms: dict[str, float | None] | None) -> str:
    if norms is None or norms["norm_mean"] is None:
        return "no rows"
    return f"{norms['norm_mean']:9.3f} ± {norms['norm_std']:<7.3f} {norms['max_abs']:8.2f}"


@command("verify", VerifyConfig)
def verify(config: VerifyConfig) -> None:
    """Check that a dataset is what it says: hashes, shards, rows, numbers. Exit status 1 if it is not."""
    if config.recompute < 0:
        raise ConfigError(f"--recompute {config.recompute} is too small", hint="use 0 or more")
    folder = _existing(config.dir)
    found = _load(_kind_of(folder).verify)(
        folder,
        recompute=config.recompute,
        model=config.model,
        dataset=config.dataset,
        device=config.device,
        quiet=config.quiet,
    )
    if config.json:
        recomputed = found.recomputed and found.recomputed._asdict()
        content = {**found._asdict(), "path": str(found.path), "recomputed": recomputed}
        echo(json.dumps(content, indent=2))
    else:
        if not found.has_manifest:
            echo("no manifest: hashes were not checked", err=True)
        for problem in found.problems:
            echo(f"WRONG {printable_line(problem)}")
        if found.recomputed:
            worst = max(found.recomputed.error_by_layer.values(), default=0.0)
            echo(
                f"recomputed {found.recomputed.n_rows} rows, one at a time: largest relative error {worst:.1e} "
                f"(allowed {found.recomputed.tolerance:.0e})"
            )
        verdict = f"{len(found.problems)} problems" if found.problems else "all as it should be"
        echo(f"{found.path}: {found.n_files} files, {format_bytes(found.n_bytes)}: {verdict}")
    if found.problems:
        sys.exit(1)


@command("seal", SealConfig)
def seal(config: SealConfig) -> None:
    """Publish a dataset whose units are all done. May be repeated."""
    path = Path(os.path.expanduser(config.dir))
    output = storage.output_of(path)
    staging = storage.reopen(path, overwrite=config.overwrite)
    if staging is not None:
        left = staging.left()
        if left:
            numbers = ", ".join(str(unit["unit"]) for unit in left[:8]) + (", …" if len(left) > 8 else "")
            raise StorageError(
                f"{len(left)} of {len(staging.plan.units)} units of {output} are missing: {numbers}",
                hint="run the command that makes it again, then it seals itself",
            )
        staging.seal(_load(_KINDS[staging.plan.kind].finish))
    echo(str(output))
    manifest = read_manifest(output)
    if manifest and n_dropped(manifest):
        sys.exit(EXIT_DROPPED)
