"""What the user can mend. Everything else is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable


class ActlabError(Exception):
    """A failure with a hint that names the next step."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(ActlabError):
    """A setting is wrong: found before any work, exit status 2."""

    exit_code = 2


class DataError(ActlabError):
    """An input file is not what it has to be."""


class ModelError(ActlabError):
    """A model cannot be found, loaded or trusted."""


class StorageError(ActlabError):
    """Something on disk is in the way, full, or not what it claims."""


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return a hint that names the nearest known name, or `otherwise`.

    >>> did_you_mean("laers", ["layers", "limit"], otherwise="see --help")
    "did you mean 'layers'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
