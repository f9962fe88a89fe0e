"""What the commands' bodies share: how loud to be, how to print results and plans, the status for drops."""

import inspect
import os
import sys
from typing import TYPE_CHECKING

import click

from actlab.ground.errors import ActlabError, scrubbed
from actlab.ground.printing import format_bytes as format_bytes
from actlab.ground.printing import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from actlab.ground.job import Cost, Outcome
    from actlab.ground.options import CommonOptions

EXIT_DROPPED = 3
EXIT_INTERRUPTED = 130


def set_loudness(quiet: bool) -> None:
    """Show warnings and errors only, where the user asked for quiet."""
    if quiet:
        from actlab.ground.log import log  # here: a wrong flag is answered without logging

        log.setLevel("WARNING")
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def echo(text: str, *, err: bool = False) -> None:
    """Print a text on stdout, or stderr: everything that a command prints goes through here.

    A model, a file or a server may have written it: what would act on a terminal is escaped (in JSON, as JSON has it).
    """
    click.echo(printable(scrubbed(text) if err else text), err=err)


def job_command(config_class: "type[CommonOptions]", about: str | None) -> click.Command:
    """Make the command of a job's settings; `about` goes on from the sentence in `main.COMMANDS`."""
    from actlab.ground.options import command

    made = command(config_class)(run_command)
    made.help = inspect.cleandoc(about or "")
    return made


def run_command(config: "CommonOptions") -> None:
    """Do what a command's settings ask for and report it, or with --dry-run what it would cost.

    The exit status is 3 where something that was asked for is not there.
    """
    from actlab.ground.job import costs_of, jobs_of, run_jobs

    set_loudness(config.quiet)
    jobs = jobs_of(config)
    if config.dry_run:
        costs = costs_of(jobs)
        if config.json:
            _print_json(config, [cost.as_json() for cost in costs])
        for cost in costs if not config.json else ():
            echo(cost_as_text(cost))
        return
    try:
        outcomes = run_jobs(jobs)
    except ActlabError as error:
        if error.done:
            _report(config, error.done)
        raise
    _report(config, outcomes)
    if any(one.falls_short for one in outcomes):
        sys.exit(EXIT_DROPPED)


def _report(config: "CommonOptions", outcomes: "Sequence[Outcome]") -> None:
    from actlab.ground.log import log

    if config.json:
        _print_json(config, [one.as_json() for one in outcomes])
    for one in outcomes:
        if not one.is_sealed:
            log.info("%s: this part is done; the last part to finish seals (or: actlab seal)", one.path)
        elif not config.json:
            echo(str(one.path))
        one.tell()


def _print_json(config: "CommonOptions", content: "Sequence[Mapping[str, object]]") -> None:
    import json

    echo(json.dumps(content if config.makes_many else content[0], indent=2, default=str))


def cost_as_text(cost: "Cost") -> str:
    """Return what a run would cost, for people."""
    counted = [(cost.n_units, "units"), (cost.n_records, cost.records), (cost.n_tokens, "tokens")]
    sizes = [(cost.bytes_to_write, "about {} to write"), (cost.bytes_of_memory, "about {} of memory")]
    said = [text.format(format_bytes(size)) for size, text in sizes if size is not None]
    lines = [
        ", ".join(f"{number} {what}" for number, what in counted if number is not None),
        *cost.notes,
        ", ".join([*said[:1], f"{format_bytes(cost.bytes_free)} free", *said[1:]]),
    ]
    return "\n".join([str(cost.path), *(f"  {line}" for line in lines)])
