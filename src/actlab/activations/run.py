"""`actlab extract-activations`: from prompts and responses to a dump of residual streams."""

import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from actlab.activations.compute import Example
from actlab.activations.config import ExtractConfig
from actlab.activations.extraction import Extraction
from actlab.activations.sink import finish
from actlab.activations.source import Source, find_datasets, scan
from actlab.backends.hub import ModelFolder, find_model
from actlab.backends.memory import freed_memory_kept
from actlab.formats.activations import read_metadata
from actlab.ground.errors import ActlabError, ConfigError, EmptyDatasetError
from actlab.ground.integrity import sealed_manifest
from actlab.ground.manifest import n_dropped
from actlab.ground.options import takes
from actlab.ground.progress import progress
from actlab.ground.storage import Staging, refuse_others, safe_name, stage

log = logging.getLogger("actlab")


class Extracted(NamedTuple):
    """What became of one model on one dataset."""

    path: Path
    """The dump's folder: {root}/{model}/{dataset}."""
    is_sealed: bool
    """False where other parts are still at work."""
    n_examples: int
    n_truncated: int
    """Examples that were cut to the limit."""
    n_dropped: int
    """Records that are not in it, over all reasons."""


class Planned(NamedTuple):
    """What one model on one dataset would take."""

    path: Path
    n_units: int
    n_lines: int
    n_examples: int
    n_tokens: int
    n_truncated: int
    n_dropped: int
    bytes_to_write: int
    bytes_free: int
    bytes_of_memory: int
    """A rough sum: the weights, the self-test or one unit's states, and one batch."""


@takes(ExtractConfig)
def extract_activations(config: ExtractConfig) -> list[Extracted]:
    """Save the residual stream of every model on every dataset; `ExtractConfig` has the settings.

    A finished dump with the same settings is left as it is, a half-made one is continued.

    Raises:
        ActlabError: Something is wrong that the user can mend; its hint says how. A dataset of which nothing is left
            costs no other: all others are done first, and are the error's `done`.
    """
    extracted: list[Extracted] = []
    try:
        for one in _extract_all(config):
            extracted.append(one)
    except ActlabError as error:
        error.done = tuple(extracted)
        raise
    return extracted


def _extract_all(config: ExtractConfig) -> Iterator[Extracted]:
    sources = _scan_all(config)
    empty: list[EmptyDatasetError] = []
    for model in _find_models(config):
        extraction = Extraction(model, config)
        jobs = [(source, extraction.plan(source), extraction.output(source)) for source in sources]
        for _, plan, output in jobs:
            refuse_others(output, plan, overwrite=config.overwrite)
        for source, plan, output in jobs:
            with stage(output, plan, part=extraction.part, overwrite=config.overwrite) as dataset:
                _work(extraction, source, dataset)
                try:
                    dataset.seal(finish)
                except EmptyDatasetError as error:
                    empty.append(error)
                    continue
            yield _outcome(dataset)
    for other in empty[1:]:
        log.warning("%s", other)
    if empty:
        raise empty[0]


def _work(extraction: Extraction, source: Source, dataset: Staging) -> None:
    """Do the units of this task's part that are missing."""
    missing = [source.units[unit["unit"]] for unit in dataset.missing()]
    label = f"{extraction.model.name} on {source.name}"
    total = sum(unit.n_lines for unit in missing) * len(source.splits)
    with progress(label, total=total, unit="example", quiet=extraction.config.quiet) as more, freed_memory_kept():
        for unit in missing:
            done = extraction.do_unit(source, unit, more)
            dataset.commit(unit._asdict(), done.files, done.record)
            dataset.log(done.event)


def _outcome(dataset: Staging) -> Extracted:
    manifest = sealed_manifest(dataset.output) if dataset.sealed else None
    if manifest is None:
        return Extracted(dataset.output, is_sealed=False, n_examples=0, n_truncated=0, n_dropped=0)
    splits = [read_metadata(dataset.output / split) for split in manifest["identity"]["splits"]]
    return Extracted(
        dataset.output,
        is_sealed=True,
        n_examples=sum(split["total_examples"] for split in splits),
        n_truncated=sum(split["truncated_examples"] for split in splits),
        n_dropped=n_dropped(manifest),
    )


@takes(ExtractConfig)
def plan_extraction(config: ExtractConfig) -> list[Planned]:
    """Return what a run with these settings would do, without loading a model's weights or writing."""
    sources = _scan_all(config)
    return [
        _planned(Extraction(model, config), source)
        for model in _find_models(config, weights=False)
        for source in sources
    ]


def _planned(extraction: Extraction, source: Source) -> Planned:
    n_examples = n_tokens = n_truncated = n_dropped = 0
    with progress("tokenising", total=source.n_lines, unit="line", quiet=extraction.config.quiet) as more:
        for unit in source.units:
            examples, dropped = extraction.read_examples(source, unit)
            n_examples += len(examples)
            n_dropped += len(dropped)
            n_tokens += sum(len(example.ids) for example in examples)
            n_truncated += sum(example.n_truncated > 0 for example in examples)
            more(unit.n_lines)
    output = extraction.output(source)
    there = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    return Planned(
        path=output,
        n_units=len(source.units),
        n_lines=source.n_lines,
        n_examples=n_examples,
        n_tokens=n_tokens,
        n_truncated=n_truncated,
        n_dropped=n_dropped,
        bytes_to_write=n_examples * extraction.bytes_per_example,
        bytes_free=shutil.disk_usage(there).free,
        bytes_of_memory=extraction.bytes_of_memory(source),
    )


@takes(ExtractConfig)
def preview_texts(config: ExtractConfig) -> Iterator[str]:
    """Yield the first joined texts as the first model sees them, the saved token between ⟦ and ⟧."""
    source = _scan_all(config)[0]
    extraction = Extraction(_find_models(config, weights=False)[0], config)

    def examples() -> Iterator[Example]:
        for unit in source.units:
            yield from extraction.read_examples(source, unit)[0]

    for example in itertools.islice(examples(), config.preview or 1):
        cut = f", {example.n_truncated} cut" if example.n_truncated else ""
        yield (
            f"--- {source.name} line {example.row.line}, {example.split}: {len(example.ids)} tokens{cut}\n"
            + extraction.tokens(source).mark(example)
        )


def _scan_all(config: ExtractConfig) -> list[Source]:
    return [
        scan(path, splits=config.split_names, shard_size=config.shard_size, limit=config.limit)
        for path in find_datasets(config.dataset)
    ]


def _find_models(config: ExtractConfig, *, weights: bool = True) -> list[ModelFolder]:
    found: dict[str, ModelFolder] = {}
    for name in config.model:
        model = find_model(name, config.revision, weights=weights, code=config.trust_remote_code)
        safe_name(model.folder_name, "model")
        if model.folder_name in found:
            raise ConfigError(
                f"two models would be named {model.folder_name}",
                hint="run them one by one into two --output roots",
            )
        found[model.folder_name] = model
    return list(found.values())
