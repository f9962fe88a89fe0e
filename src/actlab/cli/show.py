import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actlab.cli.common import echo, format_bytes
from actlab.cli.kinds import existing, kind_of, load
from actlab.ground import options, storage
from actlab.ground.errors import ActlabError
from actlab.ground.made_on import unlike_parts
from actlab.ground.manifest import read_manifest
from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What to show."""

    dir: str = argument()
    """A dataset's folder, one split's, a .partial, a root of datasets, a classifier dataset's file, or a grammar's."""
    json: bool = execution(False)
    """Print everything as JSON."""


_GRAMMAR_SUFFIXES = (".yaml", ".yml", ".txt")


@options.command(ShowConfig)
def command(config: ShowConfig) -> None:
    """A grammar is named by its file, or by the domain for which it ships: cooking, general, poetry, technical."""
    if _is_grammar(config.dir):
        described = load("actlab.text.inspect:show_grammar")(config.dir)
        echo(json.dumps(described, indent=2) if config.json else _as_list(described))
        return
    folder = existing(config.dir)
    if (folder / "plan.json").is_file():
        _show_partial(folder, as_json=config.json)
        return
    inside = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/manifest.json"))
    if inside and read_manifest(folder) is None:
        described = [_described(path) for path in inside]
        echo(json.dumps(described, indent=2) if config.json else "\n".join(map(_as_line, described)))
        return
    described = load(kind_of(folder).show)(folder)
    as_text = _as_text if described["kind"] == "activations" else _as_list
    echo(json.dumps(described, indent=2) if config.json else as_text(described))


def _is_grammar(name: str) -> bool:
    """Whether a path or a name can only be a grammar's: a file that no dataset is, or the domain of one that ships."""
    path = Path(os.path.expanduser(name))
    if path.exists():
        return path.is_file() and path.suffix.lower() in _GRAMMAR_SUFFIXES
    domains: list[str] = load("actlab.text.domains:domains")()
    return path.suffix.lower() in _GRAMMAR_SUFFIXES or name in domains


def _described(path: Path) -> dict[str, Any]:
    """Describe one of several datasets; what is wrong with one does not hide the others."""
    try:
        described: dict[str, Any] = load(kind_of(path).show)(path)
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
