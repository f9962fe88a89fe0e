"""A folder of sentence files: which are good, alike, and those that were sealed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from actlab.formats.sentences.file import HINT, KIND, NAME, WRITTEN, Sentence, SentenceFacts
from actlab.ground.errors import ConfigError, DataError, StorageError
from actlab.ground.integrity import check_sealed, is_sealed, sealed_manifest
from actlab.ground.limits import refuse_pipe
from actlab.ground.log import log
from actlab.ground.manifest import MANIFEST, METADATA, InputEntry, fingerprint, stored_files
from actlab.ground.options import as_path

INPUTS_CHECKED = "inputs_checked"
"""In the metadata of what is made from sentence files: whether these were compared with their manifest first."""


class Lost(NamedTuple):
    """A file that is not used, and why."""

    name: str
    reason: str

    @classmethod
    def by(cls, path: Path, why: object) -> "Lost":
        """Return the file with its reason, which names no folder: what is written depends on no place."""
        return cls(path.name, str(why).replace(str(path), path.name))

    @property
    def number(self) -> int:
        """The sentence's number in the file's name, from 1."""
        return int("".join(filter(str.isdigit, self.name)))


@dataclass(frozen=True)
class SentenceFolder(Sequence[Sentence]):
    """The sentence files of a folder that are good, alike, and in the order of their numbers."""

    path: Path
    sentences: tuple[Sentence, ...]
    lost: tuple[Lost, ...]
    is_checked: bool = False
    """Whether the files' bytes were compared with their manifest."""

    def __getitem__(self, place: Any) -> Any:
        return self.sentences[place]

    def __len__(self) -> int:
        return len(self.sentences)

    def as_input(self) -> InputEntry:
        """Return the manifest's entry for these files: their checksums stand for their bytes."""
        manifest = sealed_manifest(self.path)
        content = [[sentence.path.name, sentence.checksums] for sentence in self.sentences]
        return {
            "role": "sentences",
            "name": self.path.resolve().name,
            "files": len(self.sentences),
            "checksums_sha256": fingerprint(content),
            **({} if manifest is None else {"made_by": manifest["fingerprint"]}),
        }

    @property
    def facts(self) -> SentenceFacts:
        """What the files have in common: layers, SAEs, sizes."""
        return self.sentences[0].facts

    def config_of(self, layer: int, average_l0: int | None = None) -> int:
        """Return the place of a layer's SAE in the files.

        Raises:
            ConfigError: The layer is not there, or has several SAEs and none is chosen, or not that one.
        """
        layers = self.facts.layers
        l0s = {l0: place for place, l0 in enumerate(self.facts.average_l0s) if layers[place] == layer}
        known = ", ".join(map(str, sorted(l0s or set(layers))))
        if not l0s:
            raise ConfigError(f"Layer {layer} not found in data", hint=f"the files have the layers {known}")
        if average_l0 is None and len(l0s) > 1:
            raise ConfigError(
                f"layer {layer} has {len(l0s)} SAEs, and none is chosen", hint=f"give --average-l0, one of {known}"
            )
        if average_l0 is not None and average_l0 not in l0s:
            raise ConfigError(
                f"average_l0 mismatch: layer {layer} has no SAE of average_l0 {average_l0}", hint=f"it has {known}"
            )
        return next(iter(l0s.values())) if average_l0 is None else l0s[average_l0]

    def hidden_config(self, layer: int) -> int:
        """Return a place of a layer's hidden states: they do not depend on the SAE."""
        return self.facts.layers.index(layer) if layer in self.facts.layers else self.config_of(layer)


def sentence_paths(folder: str | Path) -> list[Path]:
    """Return a folder's sentence files in the order of their numbers.

    Raises:
        ConfigError: There is none.
    """
    folder = Path(as_path(folder))
    if not folder.is_dir():
        refuse_pipe(folder)
        raise ConfigError(f"there is no folder {folder}", hint="give the folder that actlab compute-features wrote")
    is_whole = (folder / METADATA).is_file() or not (folder / MANIFEST).is_file()
    if (folder / "plan.json").is_file() or not is_whole:
        raise ConfigError(
            f"{folder} is not a finished dataset", hint="run the command that makes it again: finished units are kept"
        )
    numbered = [(int(match[1]), path.name) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    if not numbered:
        raise ConfigError(
            f"No sentence_*.npz files found in {folder}",
            hint="check --input; layer-wise files are another form",
        )
    return [folder / name for _, name in sorted(numbered)]


def load_all_sentences(folder: str | Path, *, check: bool = False) -> SentenceFolder:
    """Open the sentence files of a folder, reading only what describes them; `check` hashes all of them first.

    A file that is damaged, stands twice for one sentence, or has other layers or sizes than most is left out,
    logged and listed in `lost`.

    Raises:
        ConfigError: The folder has none.
        DataError: No file is good, or they are of several makes and none is most.
        StorageError: The manifest is damaged; or with `check` a file, or no manifest names it.
    """
    folder = Path(as_path(folder))
    missing, changed, sealed = _against_manifest(folder)
    if check and missing:
        raise StorageError(f"{folder} is damaged: {missing[0]} is missing", hint=HINT)
    opened: list[Sentence] = []
    lost = [Lost(name, f"{name} is in the manifest and not in the folder") for name in missing]
    for path in sentence_paths(folder):
        if check:
            _check(path)
        try:
            if path.name in changed:
                raise DataError(f"{path} is not the file that was sealed", hint=HINT)
            sentence = Sentence(path)
            if path.name in sealed and (strange := sorted(set(sentence.arrays) - WRITTEN)):
                raise DataError(f"{path} is damaged: it has an array {strange[0]!r}", hint=HINT)
            opened.append(sentence)
        except DataError as error:
            lost.append(Lost.by(path, error))
    if not opened:
        raise DataError(f"none of the {len(lost)} files is good; {lost[0].reason}", hint=HINT)
    shapes = Counter(sentence.facts.shape for sentence in opened)
    usual, n_usual = shapes.most_common(1)[0]
    if 2 * n_usual <= len(opened) and len(opened) > 1:
        other = next(sentence for sentence in opened if sentence.facts.shape != usual)
        raise DataError(
            f"{other.path} has other layers or sizes than half of the files",
            hint="keep the files of one run in a folder",
        )
    kept: dict[int, Sentence] = {}
    for sentence in opened:
        path, index = sentence.path, sentence.facts.index
        if sentence.facts.shape != usual:
            lost.append(Lost.by(path, f"{path} has other layers or sizes than most files"))
        elif kept.setdefault(index, sentence) is not sentence:
            lost.append(Lost.by(path, f"{path} is sentence {index}, as {kept[index].path.name} is"))
    for one in lost:
        log.warning("left out: %s", one.reason)
    return SentenceFolder(folder, tuple(kept.values()), tuple(lost), is_checked=check)


def _check(path: Path) -> None:
    """Hash a sentence file.

    Raises:
        StorageError: It is not as it was sealed, or is named by no manifest.
    """
    if not is_sealed(path):
        raise StorageError(
            f"no manifest names {path}, so there is nothing to compare it with",
            hint="omit --check, or take it away",
        )
    check_sealed(path)


def _against_manifest(folder: Path) -> tuple[list[str], set[str], set[str]]:
    """Name the sentence files that a sealed folder lacks, those of another size or not its own, and its own ones."""
    manifest = sealed_manifest(folder)
    if manifest is None or manifest["kind"] != KIND:
        return [], set(), set()
    sealed = {stored.path: stored.bytes for stored in stored_files(manifest) if NAME.fullmatch(stored.path)}
    there = {path.name: path.stat().st_size for path in folder.glob("sentence_*.npz")}
    changed = {name for name, size in there.items() if sealed.get(name) != size}
    return sorted(sealed.keys() - there.keys()), changed, set(sealed)
