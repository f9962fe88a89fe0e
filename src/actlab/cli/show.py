import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actlab.cli.common import echo, format_bytes
from actlab.ground import options
from actlab.ground.errors import ActlabError
from actlab.ground.made_on import unlike_parts
from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What to show."""

    dir: Path = argument()
    """A dataset's folder, one split's, a .partial, a root of datasets, a classifier dataset's file, or a grammar's."""
    plugins: tuple[str, ...] = execution(())
    """A module with variants of your own: its name, or a .py file. May be given several times."""
    json: bool = execution(False)
    """Print everything as JSON."""


Shown = dict[str, Any]
"""A dataset as `show --json` prints it."""


@options.command(ShowConfig)
def command(config: ShowConfig) -> None:
    """A grammar is named by its file, or by the domain for which it ships: cooking, general, poetry, technical."""
    from actlab.datasets import datasets_in, show_dataset

    described = [_described(path) for path in datasets_in(config.dir)] or show_dataset(config.dir)
    if config.json:
        echo(json.dumps(described, indent=2))
    else:
        echo("\n".join(map(_as_line, described)) if isinstance(described, list) else _as_text(described))


def _described(path: Path) -> Shown:
    """Describe one of several datasets; what is wrong with one does not hide the others."""
    from actlab.datasets import show_dataset

    try:
        return show_dataset(path)
    except ActlabError as error:
        return {"path": str(path), "error": str(error)}


def _as_line(one: Shown) -> str:
    if "error" in one:
        return f"{one['path']}: WRONG {one['error']}"
    if "splits" not in one:
        return f"{one['path']}: {one['kind']}, {format_bytes(one['n_bytes'])}"
    rows = ", ".join(f"{name} {split['rows']} rows" for name, split in one["splits"].items())
    return f"{one['path']}: {one['kind']}, {rows}, {format_bytes(one['n_bytes'])}"


def _as_text(one: Shown) -> str:
    if "units_done" in one:
        return f"{one['path']}: {one['kind']}, in progress: {one['units_done']} of {one['units']} units done"
    return _dump_as_text(one) if one["kind"] == "activations" else _as_list(one)


def _as_list(one: Shown) -> str:
    """Return one line a key, long values cut."""
    lines, width = [one["path"]], max(20, *map(len, one))
    for key, value in one.items():
        text = format_bytes(value) if key == "n_bytes" else json.dumps(value, ensure_ascii=False)
        if key != "path":
            lines.append(f"  {key:<{width}} {text if len(text) <= 100 else text[:97] + '...'}")
    return "\n".join(lines + _unlike(one))


def _unlike(one: Shown) -> list[str]:
    """Say where a dataset's units were not all made on the same versions and machines."""
    unlike = unlike_parts(one.get("made_on", []))
    return [f"  units were made under different versions or machines: {'; '.join(unlike)}"] if unlike else []


def _dump_as_text(one: Shown) -> str:
    lines = [
        one["path"],
        f"  {one['kind']} of {one['model_name']} ({one['num_layers']} layers, width {one['hidden_dim']}) "
        f"on {one['dataset_name']}, position {one['position']}",
        f"  {one['n_files']} files, {format_bytes(one['n_bytes'])}",
    ]
    lines += ["  made with " + ", ".join(f"{key} {value}" for key, value in made.items()) for made in one["made_on"]]
    lines += _unlike(one)
    lines += [f"  dropped {count}: {reason}" for reason, count in one["dropped"].items()]
    lines += ["", "  split          rows  shards  dtype     cut short"]
    for name, split in one["splits"].items():
        cut = "?" if split["truncated_examples"] is None else split["truncated_examples"]
        lines.append(f"  {name:<12} {split['rows']:>6} {split['shards']:>7}  {split['dtype']:<9} {cut:>8}")
    names = list(one["splits"])
    lines += [
        "",
        "  norm of a row, mean ± std; largest value",
        "  layer  " + "  ".join(f"{name:<28}" for name in names),
    ]
    for layer in sorted({layer for split in one["splits"].values() for layer in split["layers"]}):
        cells = (_cell(one["splits"][name]["layers"].get(layer)) for name in names)
        lines.append(f"  {layer:>5}  " + "  ".join(f"{cell:<28}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(norms: dict[str, float | None] | None) -> str:
    if norms is None or norms["norm_mean"] is None:
        return "no rows"
    return f"{norms['norm_mean']:9.3f} ± {norms['norm_std']:<7.3f} {norms['max_abs']:8.2f}"
