"""The card (README.md) of a dataset that brings none: what its manifest and metadata say, for people."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from actlab.ground.integrity import read_sealed_object
from actlab.ground.manifest import METADATA, Identity, InputEntry, Manifest, Stored, stored_files

_FRONT_MATTER = """\
---
tags:
- actlab
- interpretability
viewer: false
---
"""
_LOADED_BY = {
    "activations": "acts = actlab.open_activations(folder, {split!r})  # acts[layer][0:10]: rows as a tensor",
    "sentence-features": 'sentences = actlab.load_all_sentences(folder)  # sentences[0]["activations"], read now',
    "saes": 'actlab.compute_features(input="sentences.csv", sae=folder, output="features")',
    "feature-ranking": "ranking = actlab.read_ranking(folder)",
    "probe": 'results = json.load(open(f"{{folder}}/results.json"))',
}
_OTHERWISE = 'manifest = json.load(open(f"{{folder}}/manifest.json"))  # names every file'


def make_card(folder: Path, manifest: Manifest, repo_id: str) -> str:
    """Return the card of a sealed dataset as Markdown; names and values stand in it as code."""
    files = list(stored_files(manifest))
    metadata = [one.path for one in files if PurePosixPath(one.path).name == METADATA]
    parts = [
        f"{_FRONT_MATTER}\n# {repo_id.rpartition('/')[2]}",
        _summary(manifest),
        f"## How to load it\n\n{_loading(manifest['kind'], metadata, repo_id)}",
        _table("Settings", ("setting", "value"), sorted(manifest["identity"].items())),
        _table("Made from", ("role", "name", "sha256"), map(_input, manifest["inputs"])),
        _table("Numbers", ("file", "what", "number"), _numbers(folder, metadata, manifest["identity"])),
        _table("Files", ("ending", "files", "rows", "bytes"), _by_ending(files)),
        _table("Dropped", ("reason", "records"), sorted(manifest["dropped"].items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(manifest: Manifest) -> str:
    identity = manifest["identity"]
    sources = dict.fromkeys(str(one.get("name")) for one in manifest["inputs"] if one.get("role") != "model")
    names = [_code(name) for name in sources]
    made = [f"with the model {_code(str(identity['model_name']))}"] if "model_name" in identity else []
    made += ["from " + ", ".join(names[:4]) + (", …" if len(names) > 4 else "")] if names else []
    how = f", made {' '.join(made)}" if made else ""
    return "\n".join(
        [
            f"A dataset of kind {_code(manifest['kind'])}{how}.\n",
            f"- fingerprint {_code(manifest['fingerprint'])}, format version {manifest.get('format_version')}",
            "- `manifest.json` has the sha256 of every file; `metadata.json` says that the dataset is whole",
            f"- card made by actlab {version('actlab')}",
        ]
    )


def _loading(kind: str, metadata: Sequence[str], repo_id: str) -> str:
    line = _LOADED_BY.get(kind, _OTHERWISE).format(split=PurePosixPath(metadata[0]).parent.name)
    return "\n".join(
        [
            "```python",
            "import json" if "json." in line else "import actlab",
            "from huggingface_hub import snapshot_download",
            "",
            f'folder = snapshot_download("{repo_id}", repo_type="dataset")',
            line,
            "```",
        ]
    )


def _input(entry: InputEntry) -> tuple[object, object, str]:
    sha256 = str(entry.get("sha256") or entry.get("checksums_sha256") or "")
    return entry.get("role", ""), entry.get("name", ""), sha256[:12]


def _numbers(folder: Path, metadata: Iterable[str], identity: Identity) -> list[tuple[str, str, int]]:
    """Return the whole numbers in each `metadata.json` that are no settings."""
    return [
        (path, key, value)
        for path in metadata
        for key, value in read_sealed_object(folder / path).items()
        if isinstance(value, int) and not isinstance(value, bool) and key not in {*identity, "format_version"}
    ]


def _by_ending(files: Iterable[Stored]) -> list[tuple[str, int, int | str, int]]:
    """Return number, rows and bytes of the files of each ending."""
    groups = defaultdict(list)
    for one in files:
        groups[PurePosixPath(one.path).suffix or one.path].append(one)
    return [
        (ending, len(group), sum(one.rows or 0 for one in group) or "", sum(one.bytes for one in group))
        for ending, group in sorted(groups.items())
    ]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a heading and a table, or nothing where there are no rows."""
    lines = [" | ".join(_cell(value) for value in row) for row in rows]
    if not lines:
        return ""
    rule = " | ".join("---" for _ in head)
    return "\n".join([f"## {title}\n", f"| {' | '.join(head)} |", f"| {rule} |", *(f"| {line} |" for line in lines)])


def _cell(value: object) -> str:
    """Return a value for a table; a bar would end the cell even in code."""
    if value == "":
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _code(text if len(text) <= 200 else text[:199] + "…").replace("|", "\\|")


def _code(text: str) -> str:
    """Return text as code in one line, whatever it holds.

    >>> _code("a `b`")
    '`` a `b` ``'
    """
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
