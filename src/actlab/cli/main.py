"""`actlab`: commands, errors in two lines, exit codes."""

import errno
import functools
import importlib
import os
import re
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from actlab import __version__
from actlab.cli.common import EXIT_INTERRUPTED, echo
from actlab.ground.errors import ActlabError, did_you_mean

EXIT_USAGE = 2

_COMPLETE = "_ACTLAB_COMPLETE"
"""The variable in which a shell asks for its completion script, or for what may follow."""
_SHELLS = ("bash", "zsh", "fish")
_PLACE = re.compile("[0-9]{1,9}")
"""Which word is being typed; fish gives the word itself."""


COMMANDS = {
    "extract-activations": "Save the residual stream of a model over prompts and responses: every block, last token.",
    "compute-features": "Encode sentences with a model's SAEs: one file a sentence, one row a token.",
    "split": "Divide sentences into train, validation and test, once for every command that follows.",
    "rank-features": "Rank SAE features by how they follow the sentences' label, over all layers.",
    "generate-datasets": "Make classifier datasets (X, y) from sentence feature files.",
    "sweep-datasets": "Make many classifier datasets, reading each folder's files once.",
    "train-sae": "Train a small SAE a layer on the residual stream, so that the chain runs offline.",
    "train-probe": "Fit linear probes and test them on rows that nothing was chosen on, beside their baselines.",
    "generate-text": "Write text for training small GPTs, until it has the tokens asked for.",
    "refine-text": "Choose well-formed and varied documents of a generated dataset.",
    "tokenize-text": "Turn documents into streams of token ids for training, some documents held out.",
    "train-gpt": "Train a small GPT on the tokens of tokenize-text.",
    "create-sig-dataset": "Make the sequences on which every subject network's activation signature is taken.",
    "create-benchmark-dataset": "Make sequences of each enabled pattern, to measure networks on.",
    "run-data-gen": "Train small subject networks in two stages, and write them as data for models that "
    "interpret weights.",
    "score-interpreter": "Score what a model that interprets weights says of a dataset's networks, beside baselines.",
    "reproduce": "Train one example of a dataset of weights again, from the dataset's own settings, and compare.",
    "show": "Show what a dataset is (its source, its sizes, its layers' norms), or what a grammar can say.",
    "verify": "Check that a dataset is what it says: hashes, shards, rows, numbers. Exit status 1 if it is not.",
    "seal": "Publish a dataset whose units are all done. May be repeated.",
    "push": "Send a sealed dataset to the Hugging Face hub, privately unless told otherwise. May be repeated.",
    "demo": "Run the whole chain offline: text, a GPT, activations, an SAE, features, a probe, networks' weights.",
}
"""The commands in the order of their use, each with the first paragraph of its help."""


class Named(click.Command):
    """A command of the table. The whole of it is `command` in the file of its name, imported when it is called."""

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name, help=about, short_help=about.partition(".")[0])
        self.file = name.replace("-", "_")

    @functools.cached_property
    def whole(self) -> click.Command:
        """The command with its options and all of its help."""
        command: click.Command = importlib.import_module(f"actlab.cli.{self.file}").command
        command.help = "\n\n".join(filter(None, [self.help, command.help]))
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments, as the whole command does, and make ready to log: it will run."""
        context = self.whole.make_context(info_name, args, parent, **extra)
        _log_to_stderr()
        return context


class Group(click.Group):
    """A group that keeps the commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of their definition."""
        return list(self.commands)


@click.group(
    "actlab",
    cls=Group,
    commands={name: Named(name, about) for name, about in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, message="actlab %(version)s")
def actlab() -> None:
    """Turn language models into datasets that interpretability researchers can trust.

    Paths of finished datasets go to stdout, all else to stderr. Exit status: 0 done; 1 failed, can be
    mended; 2 wrong usage; 3 done, but some records were dropped, or not made or judged by the model that
    was named; 130 interrupted, run again to resume.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    if instruction := os.environ.get(_COMPLETE):
        _complete(instruction)
    try:
        with actlab.make_context("actlab", list(sys.argv[1:] if arguments is None else arguments)) as context:
            actlab.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message(), err=True)
        sys.exit(EXIT_USAGE)
    except click.UsageError as error:
        _fail(_usage_message(error), _usage_hint(error), EXIT_USAGE)
    except ActlabError as error:
        _fail(str(error), error.hint, error.exit_code)
    except KeyboardInterrupt:
        _fail(*_INTERRUPTED)
    except BrokenPipeError:
        _drop_stdout()  # nobody reads any more
        sys.exit(1)
    except MemoryError:
        _fail(*_OUT_OF_MEMORY)
    except OSError as error:  # a path that is too long, not ours to read, on a full disk: the user's to mend
        _drop_stdout()
        if error.errno == errno.ENOMEM:  # a file that was to be mapped, a process that was to be started
            _fail(*_OUT_OF_MEMORY)
        where = f" {error.filename}" if error.filename else ""
        _fail(f"cannot go on{where}: {error.strerror or error}", "check the path, its permissions and the disk", 1)
    except Exception as error:
        if _interrupts:
            _fail(*_INTERRUPTED)  # a library that was being imported made another error of it
        if _is_torch_out_of_memory(error):
            _fail(*_OUT_OF_MEMORY)
        raise
    sys.exit(0)


def _log_to_stderr() -> None:
    import logging

    from actlab.ground.log import log
    from actlab.ground.logs import LineFormatter, lines_of_libraries

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler])
    lines_of_libraries("transformers", "huggingface_hub")
    log.setLevel(logging.INFO)


def _drop_stdout() -> None:
    """Keep Python from flushing to a stdout that takes nothing more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_torch_out_of_memory(error: Exception) -> bool:
    """Whether torch had too little memory, which it says by a RuntimeError."""
    if not isinstance(error, RuntimeError) or "torch" not in sys.modules:
        return False
    from actlab.backends.memory import is_out_of_memory

    return is_out_of_memory(error)


_OUT_OF_MEMORY = (
    "out of memory: what was asked for does not fit into this machine's",
    "lower --batch-size or --limit, where the command has one, or use a machine with more memory",
    1,
)
_INTERRUPTED = ("interrupted", "run the same command again: finished units are kept", EXIT_INTERRUPTED)
_interrupts: list[int] = []
"""Signals that asked for an end."""


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _interrupts.append(number)
    raise KeyboardInterrupt


def _fail(message: str, hint: str, status: int) -> NoReturn:
    echo(f"Error: {' '.join(message.split())}", err=True)
    echo(f"Hint: {' '.join(hint.split())}", err=True)
    sys.exit(status)


def _complete(instruction: str) -> NoReturn:
    """Print the script that makes a shell complete actlab's words, or the words that may follow, and exit."""
    from click.shell_completion import shell_complete

    shell, _, wanted = instruction.partition("_")
    if shell not in _SHELLS or wanted not in ("source", "complete"):
        hint = "use " + " or ".join(f"{one}_source" for one in _SHELLS)
        _fail(f"{_COMPLETE} cannot be {instruction!r}", hint, EXIT_USAGE)
    if wanted == "complete" and not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys():
        _fail(f"{_COMPLETE}={instruction} is set without COMP_WORDS and COMP_CWORD", f"use {shell}_source", EXIT_USAGE)
    if wanted == "complete" and shell != "fish" and not _PLACE.fullmatch(os.environ["COMP_CWORD"]):
        _fail(f"COMP_CWORD cannot be {os.environ['COMP_CWORD']!r}", f"use {shell}_source, which sets it", EXIT_USAGE)
    sys.exit(shell_complete(actlab, {}, "actlab", _COMPLETE, instruction))


def _usage_message(error: click.UsageError) -> str:
    """Return what is wrong, in the same words whatever click's version says."""
    if isinstance(error, click.NoSuchOption):
        return f"No such option {error.option_name!r}"
    return error.format_message().split(" (Did you mean")[0].rstrip(".")


def _usage_hint(error: click.UsageError) -> str:
    context = error.ctx
    otherwise = f"see {context.command_path if context else 'actlab'} --help"
    if isinstance(error, click.NoSuchOption) and context:
        flags = [flag for param in context.command.params for flag in (*param.opts, *param.secondary_opts)]
        return did_you_mean(error.option_name, flags, otherwise=otherwise)
    if error.message.startswith("No such command") and context and isinstance(context.command, click.Group):
        return did_you_mean(error.message.split("'")[1], context.command.commands, otherwise=otherwise)
    return otherwise
