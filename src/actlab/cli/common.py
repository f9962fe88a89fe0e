"""What the commands' bodies share: how loud to be, how to print results and plans, the status for drops."""

import os
from collections.abc import Callable
from typing import Any

import click

from actlab.ground.errors import scrubbed
from actlab.ground.printing import printable

EXIT_DROPPED = 3
EXIT_INTERRUPTED = 130


def set_loudness(quiet: bool) -> None:
    """Show warnings and errors only, where the user asked for quiet."""
    if quiet:
        import logging

        logging.getLogger("actlab").setLevel(logging.WARNING)
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def info(message: str, *values: object) -> None:
    """Log what a user may want to know."""
    import logging  # here and above: a wrong flag is answered without it

    logging.getLogger("actlab").info(message, *values)


def warn(message: str, *values: object) -> None:
    """Log what a user should look at."""
    import logging

    logging.getLogger("actlab").warning(message, *values)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text on stdout, or stderr: everything that a command prints goes through here.

    A model, a file or a server may have written it: what would act on a terminal is escaped (in JSON, as JSON has it).
    """
    click.echo(printable(scrubbed(text) if err else text), err=err)


def print_json(result: Any) -> None:
    """Print a named tuple, or a list of them, as JSON; paths as text."""
    import json

    content = [one._asdict() for one in result] if isinstance(result, list) else result._asdict()
    echo(json.dumps(content, indent=2, default=str))


def print_plan(plan: Any, as_text: Callable[[Any], str], *, as_json: bool) -> None:
    """Print what a run would do."""
    if as_json:
        print_json(plan)
    else:
        echo("\n".join(map(as_text, plan)) if isinstance(plan, list) else as_text(plan))


def format_bytes(count: float) -> str:
    """Return a number of bytes for people.

    >>> format_bytes(614_400)
    '614.4 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
