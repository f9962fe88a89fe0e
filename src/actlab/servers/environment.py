"""What the environment says about servers: read here, once, and handed over from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from actlab.ground.errors import ConfigError

DEFAULT_HOST = "127.0.0.1:11434"
_PORTS = {"": 11434, "http": 80, "https": 443}
"""Where no port is given: Ollama's own without a scheme, the scheme's with one, as Ollama's own client has it."""
_UNBOUND = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on, which cannot be called."""
_TIMEOUT = "TEXT2GPT1_OLLAMA_TIMEOUT_"


@dataclass(frozen=True, kw_only=True)
class ServerEnvironment:
    """The settings of servers that come from the environment; None where it does not say."""

    ollama_url: str = f"http://{DEFAULT_HOST}"
    ollama_login: str = field(default="", repr=False)
    """A name and a password, which OLLAMA_HOST may hold; sent, and never shown."""
    preset: str | None = None
    connection_s: float | None = None
    generation_s: float | None = None
    evaluation_s: float | None = None
    request_interval_s: float = 0.0
    """Seconds from the start of one request to the start of the next, at least."""
    api_key: str = field(default="", repr=False)
    """For OpenAI-compatible servers; never logged."""


def read_environment(environ: Mapping[str, str]) -> ServerEnvironment:
    """Read a mapping such as os.environ; an empty value counts as none.

    Raises:
        ConfigError: A time is no number of seconds, OLLAMA_HOST no address, or OPENAI_API_KEY no key.
    """
    host = environ.get("OLLAMA_HOST", "").strip() or DEFAULT_HOST
    return ServerEnvironment(
        ollama_url=ollama_url(host),
        ollama_login=login_of(host),
        preset=environ.get(f"{_TIMEOUT}PRESET", "").strip().lower() or None,
        connection_s=_seconds(environ, f"{_TIMEOUT}CONNECTION"),
        generation_s=_seconds(environ, f"{_TIMEOUT}GENERATION"),
        evaluation_s=_seconds(environ, f"{_TIMEOUT}EVALUATION"),
        request_interval_s=_seconds(environ, "TEXT2GPT1_OLLAMA_REQUEST_INTERVAL", least=0.0) or 0.0,
        api_key=_api_key(environ.get("OPENAI_API_KEY", "").strip()),
    )


def _api_key(key: str) -> str:
    if key and not (
        key.isascii() and key.isprintable() and " " not in key
    ):  # the HTTP library would show it in its error
        raise ConfigError("OPENAI_API_KEY cannot be a key: it has spaces or odd characters", hint="copy it once more")
    return key


def _seconds(environ: Mapping[str, str], name: str, *, least: float = 0.001) -> float | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= 86_400:
        raise ConfigError(f"{name}={text!r} is not a time", hint="write seconds, as in 30 or 2.5")
    return seconds


def ollama_url(host: str) -> str:
    """Turn a host as OLLAMA_HOST has it into a base address that can be called.

    A name and a password are left out: `login_of` has them.

    >>> ollama_url("0.0.0.0"), ollama_url("https://ann:secret@models.example/ollama/")
    ('http://127.0.0.1:11434', 'https://models.example:443/ollama')

    Raises:
        ConfigError: It is no address.
    """
    return _base_url(host, *_scheme_of(host))


def openai_url(base_url: str) -> str:
    """Return the base address of an OpenAI-compatible server; without a path it is /v1, and without a password.

    >>> openai_url("http://localhost:8000"), openai_url("localhost:8000/api/v1/chat/completions")
    ('http://localhost:8000/v1', 'http://localhost:8000/api/v1')

    Raises:
        ConfigError: It is no address.
    """
    scheme, rest = _scheme_of(base_url.strip())
    url = _base_url(base_url, scheme or "http", rest).removesuffix("/chat/completions")
    return url if urlsplit(url).path else f"{url}/v1"


def login_of(address: str) -> str:
    """Return the name and password in an address, as HTTP's basic authentication has them; "" where there are none.

    >>> login_of("http://ann:p%40ss@box:80"), login_of("box:80")
    ('ann:p@ss', '')
    """
    parts = _split(_scheme_of(address.strip())[1])
    if not parts.username and not parts.password:
        return ""
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def _scheme_of(address: str) -> tuple[str, str]:
    """Return an address' scheme, "" where it has none, and the rest."""
    scheme, separator, rest = address.partition("://")
    return (scheme.lower(), rest) if separator else ("", address)


def _split(rest: str) -> SplitResult:
    bare_v6 = rest.count(":") > 1 and "@" not in rest and not rest.startswith("[")
    return urlsplit(f"//[{rest}]" if bare_v6 else f"//{rest}")


def _base_url(given: str, scheme: str, rest: str) -> str:
    """Return the address that can be called. What may hold a password or a key is in no message, nor any part of it."""
    hint = "write host:port, or http://host:port"
    shown = repr(given)
    if any(mark in given for mark in "@?#"):
        shown = "what was given"
        hint += (
            "; for a password put name:password@ before the host, odd characters as %40; a key goes into OPENAI_API_KEY"
        )
    try:
        parts = _split(rest)
        port = _PORTS.get(scheme) if parts.port is None else parts.port
    except ValueError:  # its words have a piece of the address
        raise ConfigError(f"{shown} is not a server's address: host or port is not valid", hint=hint) from None
    name = parts.hostname
    problems = {
        "its scheme is neither http nor https": scheme not in _PORTS,
        "nobody can be called at port 0": port == 0,
        "it names no host": not name and parts.port is None,
        "only scheme, host, port and path are allowed": (
            parts.query or parts.fragment or "@" in parts.path or any(map(str.isspace, rest))
        ),
    }
    if problem := next((problem for problem, holds in problems.items() if holds), None):
        raise ConfigError(f"{shown} is not a server's address: {problem}", hint=hint)
    name = _UNBOUND.get(name or "127.0.0.1", name or "127.0.0.1")
    name = f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{name}:{port}{parts.path.rstrip('/')}"
