"""What is asked of a model server and what comes back, whichever API it speaks."""

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, get_type_hints

from actlab.ground.errors import ActlabError
from actlab.servers.limits import TimeoutLimits

STOP, LENGTH = "stop", "length"
"""How a reply ends whose end was seen."""
TIMEOUT, CUT, ERROR, REFUSED, UNREACHABLE, EMPTY = "timeout", "cut", "error", "refused", "unreachable", "empty"
THOUGHT, REFUSAL = "thought", "refusal"
"""How one fails: a limit passed; ended without its end marker; the server said that it failed; it would not take
the request; no connection, or a lost one; an end marker and no text; a thought and no text; the model declined."""


class ServerError(ActlabError):
    """A model server cannot be reached, or does not have what is asked of it."""


class CallError(Exception):
    """A call failed: how (one of the reasons above), and what happened."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Request:
    """One text to ask for."""

    k: int
    """Its place in the run."""
    prompt: str
    seed: int
    max_tokens: int = 150
    temperature: float = 0.8
    stop: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    """A JSON schema that the reply has to meet: half of such a reply is worth nothing and is dropped whole."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of the last attempt; None where the server does not say."""

    total_s: float
    first_token_s: float | None = None
    load_s: float | None = None
    eval_s: float | None = None
    queue_s: float | None = None
    """Waited for a free slot at the server."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of a request, when all attempts are over."""

    k: int
    text: str
    """Ready to use; "" where nothing could be kept."""
    done_reason: str
    problem: str = ""
    """What went wrong, in words."""
    n_tokens_teacher: int | None = None
    """In the server model's own tokens."""
    timings: Timings
    attempts: int = 1
    throttled: int = 0
    """Attempts that the server turned away as too many."""

    @property
    def failed(self) -> bool:
        """Whether there is no text, and the fault is the server's."""
        return not self.text and self.done_reason not in (STOP, LENGTH)

    def as_json(self) -> dict[str, object]:
        """Return the journal's fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Reply":
        """Read them back; a TypeError says that they are others."""
        timings = Timings(**fields["timings"])
        reply = cls(**{**fields, "timings": timings})
        for one in (reply, timings):
            for name, kind in get_type_hints(type(one)).items():
                if not isinstance(getattr(one, name), kind):
                    raise TypeError(f"{name} is {getattr(one, name)!r}")
        return reply


class ServerFacts(NamedTuple):
    """What a server says of the model."""

    model: str
    """The full name, with its tag."""
    digest: str
    """Of the model's weights; "" where the server does not say."""


class Warmth(NamedTuple):
    """What loading the model showed."""

    load_s: float
    on_gpu: bool | None
    """None where the server does not say."""


class Piece(NamedTuple):
    """A part of a reply as it arrives."""

    text: str = ""
    thought: bool = False
    """Whether it has some of a thought, which is no part of the text."""
    done_reason: str = ""
    """Set once the end marker was seen."""
    n_tokens: int | None = None
    load_s: float | None = None
    eval_s: float | None = None
    queue_s: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model at an address, and all that stays the same for a whole run."""

    base_url: str
    model: str
    limits: TimeoutLimits
    options: Mapping[str, int] = field(default_factory=dict)
    """Ollama's runner options, such as num_ctx: a change between two requests would load the model anew."""
    api_key: str = field(default="", repr=False)
    login: str = field(default="", repr=False)
    """A name and a password, joined by a colon: sent in place of the key where the address has them."""
    digest: str = ""
    renamed: dict[str, str] = field(default_factory=dict, compare=False)
    """Fields of a request that this server wants under another name, as it said when the model was loaded. All copies
    share them, and the journal's keys know nothing of them."""

    def as_sent(self, body: Mapping[str, object]) -> dict[str, object]:
        """Return a request's body with the names that this server wants."""
        return {self.renamed.get(name, name): value for name, value in body.items()}

    @property
    def authorization(self) -> str:
        """The header of that name; "" where there is none."""
        if self.login:
            return f"Basic {base64.b64encode(self.login.encode()).decode()}"
        return f"Bearer {self.api_key}" if self.api_key else ""

    def hidden(self, text: str) -> str:
        """Return what a server says without the key and the login, which it may repeat.

        Of a login the pair, as it is and as it is sent; its password where it stands as a word of at least four
        characters; its name only before a colon: both may be words that a server says of itself.
        """
        name, _, password = self.login.partition(":")
        sent = self.authorization.partition(" ")[2]
        secrets = [
            *(_anywhere(one) for one in (sent, self.api_key, self.login) if one),
            *(_as_word(one) for one in [password or name] if len(one) >= _SHORTEST_PASSWORD),
            *(rf"{_as_word(one)}(?=:)" for one in [name] if one),
        ]
        for secret in secrets:
            text = re.sub(secret, "***", text)
        return text


_SHORTEST_PASSWORD = 4
"""Of those that are told from other words; a shorter one is hidden with its name alone."""


def _as_word(secret: str) -> str:
    return rf"(?<!\w){re.escape(secret)}(?!\w)"


def _anywhere(secret: str) -> str:
    return _as_word(secret) if len(secret) < 8 else re.escape(secret)
