"""What the user can fix. Everything else is a bug and keeps its traceback."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from actlab.ground.job import Outcome


class ActlabError(Exception):
    """A failure with a hint that names the next step."""

    exit_code = 1
    done: "tuple[Outcome, ...]" = ()
    """What the same run had finished of other datasets."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[str]]:
        """Take the hint along from a worker process."""
        return functools.partial(type(self), hint=self.hint), (str(self),)


class ConfigError(ActlabError):
    """A setting is wrong: found before any work, exit status 2."""

    exit_code = 2


class DataError(ActlabError):
    """An input file is not what it has to be."""


class EmptyDatasetError(DataError):
    """Every record was dropped, so there is nothing to seal."""


class ModelError(ActlabError):
    """A model cannot be found, loaded or trusted."""


class StorageError(ActlabError):
    """Something on disk is in the way, full, or not what it claims."""


@contextmanager
def foreign_errors(what: str, *, hint: str, kind: type[ActlabError] = ModelError) -> Iterator[None]:
    """Turn whatever a library raises on a user's files into an ActlabError, once, where it enters.

    For parsers of files that actlab did not write (configs, weights, tokenizers, templates): they raise
    anything on a damaged file. Running out of memory is left alone.
    """
    try:
        yield
    except (ActlabError, MemoryError):
        raise
    except Exception as error:
        reason = reason_of(error)
        raise kind(f"{what}: {reason}", hint=_better_hint(error, reason) or hint) from error


_OF_PICKLES = r"(?i)weights[_ ]only|allow_pickle|as a pickle|\bpickled|\bunpickl"


def reason_of(error: BaseException) -> str:
    """Return what a library says went wrong, in one line of at most 300 characters.

    What torch and numpy say of pickles ends in advice to run them, which is not passed on.
    """
    reason = " ".join(str(error).split())
    if re.search(_OF_PICKLES, reason):
        return "it is damaged, or holds pickled objects, which could run code and are never loaded"
    return reason[:300] or type(error).__name__


def _better_hint(error: Exception, reason: str) -> str | None:
    """Return the hint that a library's own words call for."""
    if "trust_remote_code" in reason:
        return "it brings its own code: read it, then give --trust-remote-code"
    if isinstance(error, ImportError):
        return "install the package that it names, then rerun the command"
    return None


_NAMES = (
    r"(?:api|access|secret|private|auth)[_-]?key|(?:client[_-]?)?secret|password|passwd|pwd"
    r"|(?:access|auth|refresh)[_-]?token"
)
_SECRETS = (
    (("hf_",), r"hf_[A-Za-z0-9]{8,}", "hf_…"),
    (("sk-",), r"\bsk-[A-Za-z0-9_-]{16,}", "sk-…"),
    (("gh",), r"\b(gh[opsur]_|github_pat_)[A-Za-z0-9_]{8,}", r"\1…"),
    (("bearer", "auth"), r"\b(bearer|authorization\W+basic)\s+(?=\S*[\d=+/])\S+", r"\1 …"),
    (("://",), r"://(?:[^\s'\"/]*|[^\s'\"/@:]+:(?!\d{0,5}/)(?:(?!://)[^\s'\"])*)@", "://…@"),
    (
        ("=",),
        r"([?&][\w.-]{0,40}(?:key|token|secret|passw|pwd|auth|signature|credential)[\w.-]{0,40})=[^&\s'\"#]+",
        r"\1=…",
    ),
    (
        ("key", "secret", "passw", "pwd", "token"),
        rf"(?<![?&\w])((?:x-)?(?:{_NAMES})(?:['\"]?\s{{0,3}}:\s{{0,3}}|=)['\"]?)[^\s'\",;&}}…]+",
        r"\1…",
    ),
    (("token",), r"(?<![?&\w])(?<!\w-)(token(?:=|['\"]\s{0,3}:\s{0,3})['\"]?)[^\s'\",;&}…]+", r"\1…"),
    (("=",), r"\b(?-i:([A-Z][A-Z0-9_]{0,60}(?:KEY|TOKEN|SECRET|PASSWORD)=['\"]?))[^\s'\",;&}…]+", r"\1…"),
)
"""Words of which a text with a secret has one, the pattern of the secret, and what stands for it: tokens of the hub,
of OpenAI and of GitHub, headers, addresses' names and passwords, and what fields, flags and variables hold that are
named as keys. Of an address whose password has a slash in it, all up to the host; host:port/path is none. No pattern
tries a character more than a bounded number of times."""


def scrubbed(text: str) -> str:
    """Return a text without tokens and passwords.

    >>> scrubbed("hub.token is hf_abcdefgh1234"), scrubbed("http://ann:secret@box/v1?api_key=secret")
    ('hub.token is hf_…', 'http://…@box/v1?api_key=…')
    """
    folded = text.casefold()
    for words, secret, shown in _SECRETS:
        if any(word in folded for word in words):  # few have: a pattern is compiled when it is needed
            text = re.sub(secret, shown, text, flags=re.IGNORECASE)
    return text


def first_line(error: BaseException) -> str:
    """Return the head of an error's message, tokens removed."""
    line = (str(error) or type(error).__name__).strip().splitlines()[0]
    return scrubbed(line)[:200]


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return a hint that names the nearest known name, or `otherwise`.

    >>> did_you_mean("laers", ["layers", "limit"], otherwise="see --help")
    "did you mean 'layers'?"
    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
