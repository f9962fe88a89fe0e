import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actlab.activations.config import ExtractConfig
from actlab.cli.common import EXIT_DROPPED, echo, format_bytes, info, print_json, print_plan, set_loudness, warn
from actlab.ground import options
from actlab.ground.errors import ActlabError, DataError

if TYPE_CHECKING:
    from actlab.activations.run import Extracted, Planned


@options.command(ExtractConfig)
def command(config: ExtractConfig) -> None:
    """Writes ROOT/MODEL/DATASET/SPLIT/layer_00/shard_000.pt and so on, with metadata.json in each split.
    Run it again after any interruption: it goes on where it stopped, and the bytes are the same.

    \b
    actlab extract-activations --model DIR --dataset FILE.jsonl --layers 0-10:2
    actlab extract-activations --model DIR --preview 2
    actlab extract-activations --model DIR --part 2/3        one task of three
    """
    from actlab.activations.run import extract_activations, plan_extraction, preview_texts

    set_loudness(config.quiet)
    if config.preview is not None:
        texts = list(preview_texts(config))
        for text in texts:
            echo(text)
        if not texts:
            raise DataError("no record of the first dataset makes an example", hint="--dry-run counts what is dropped")
    elif config.dry_run:
        print_plan(plan_extraction(config), _plan_as_text, as_json=config.json)
    else:
        try:
            extracted = extract_activations(config)
        except ActlabError as error:
            if error.done:
                _report(error.done, as_json=config.json)
            raise
        _report(extracted, as_json=config.json)
        if any(one.n_dropped for one in extracted):
            sys.exit(EXIT_DROPPED)


def _report(extracted: "Sequence[Extracted]", *, as_json: bool) -> None:
    if as_json:
        print_json(extracted)
    for one in extracted:
        if not one.is_sealed:
            info("%s: this part is done; the last part to finish seals (or: actlab seal)", one.path)
        elif not as_json:
            echo(str(one.path))
        if one.is_sealed and not one.n_examples:  # an earlier version sealed it
            warn("%s: it is empty, every record was dropped", one.path)
        if one.n_truncated:
            info("%s: %d of %d examples were cut to the limit", one.path, one.n_truncated, one.n_examples)
        if one.n_dropped:
            warn("%s: %d records dropped, listed in its dropped.jsonl", one.path, one.n_dropped)


def _plan_as_text(plan: "Planned") -> str:
    return (
        f"{plan.path}\n"
        f"  {plan.n_units} units, {plan.n_lines} source lines, {plan.n_examples} examples, {plan.n_tokens} tokens\n"
        f"  {plan.n_truncated} would be cut short, {plan.n_dropped} dropped\n"
        f"  {format_bytes(plan.bytes_to_write)} to write, {format_bytes(plan.bytes_free)} free; "
        f"about {format_bytes(plan.bytes_of_memory)} of memory"
    )
