"""Planted damage: single bytes of a sealed dataset's files changed, one at a time."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actlab.ground.errors import ActlabError


def seal(folder: Path, kind: str, **identity: Any) -> Path:
    """Write the manifest of the files that lie in a folder, by docs/formats.md alone."""
    described = {"format_version": 1, "kind": kind, "identity": identity, "inputs": []}
    text = json.dumps(described, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    entries = [
        {
            "path": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    manifest = {**described, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}
    manifest |= {"n_units": 1, "dropped": {}, "made_on": [], "files": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def sealed_again(folder: Path) -> Path:
    """Put the hashes of the files as they are now into a manifest, as if they had been written so."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def places(path: Path, n: int) -> Iterator[tuple[int, int]]:
    """Yield n places spread over a file, first and last byte among them, and a bit to change at each."""
    size = path.stat().st_size
    for k in range(n):
        yield (size - 1) * k // max(1, n - 1), 1 << (k * 3 + 1) % 7


@contextmanager
def flipped(path: Path, place: int, bit: int) -> Iterator[None]:
    """Lend a file with one bit changed, and give it back as it was."""
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    try:
        yield
    finally:
        path.write_bytes(whole)


def refused_flips(
    run: Callable[[], Any], paths: Iterable[Path], *, n: int = 4, says: tuple[str, ...] = ("is damaged",)
) -> int:
    """Run again with each flip: it is refused in words that `says` has, or comes to the same. Return the refusals."""
    whole, n_refused = run(), 0
    for path in paths:
        for place, bit in places(path, n):
            with flipped(path, place, bit):
                came = _came_of(run)
            where = f"{path}, byte {place}"
            if isinstance(came, ActlabError):
                assert came.exit_code == 1, where
                assert any(word in str(came) for word in says), f"{where}: {came}"
                assert came.hint, where
                n_refused += 1
            else:
                assert came == whole, f"{where}: another result, without a word"
    return n_refused


def _came_of(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except ActlabError as error:
        return error
