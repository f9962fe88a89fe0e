"""What a server sends, read with suspicion: any JSON may come, and none of it may break more than its own reply."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import responses
from itertools import dropwhile

from actlab.ground.errors import scrubbed
from actlab.ground.printing import printable_line
from actlab.servers.calls import CUT, CallError

LONGEST_ANSWER = 1 << 22  # a line of a stream is a token; an object of megabytes is no reply
Fields = Mapping[str, object]
"""A JSON object's."""
_MOST = 1e18  # a count or a time over this is none


def json_of(content: str | bytes) -> object:
    """Return what JSON says; None where it is none, nests too deep or has a number of thousands of digits."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def fields_of(line: bytes) -> Fields:
    """Return the JSON object that a line or an event of a stream is.

    Raises:
        CallError: It is none.
    """
    fields = json_of(line)
    if not isinstance(fields, dict):
        raise CallError(CUT, f"a torn line, or none of this API: {shown(line[:60].decode(errors='replace'))}")
    return fields


def lines_of(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an answer's lines; where it is one JSON object over several lines, that object as one line.

    So it is when a server answers a request for a stream with the whole. A byte order mark is taken off.

    Raises:
        CallError: The object is of megabytes.
    """
    rest = dropwhile(lambda line: not _without_mark(line), lines)
    start = _without_mark(next(rest, b""))
    if start.startswith(b"{") and json_of(start) is None:
        whole = bytearray(start)
        for more in rest:
            whole += b"\n" + more
            if len(whole) > LONGEST_ANSWER:
                raise CallError(CUT, "an object without end")
        content = json_of(bytes(whole))
        start = start if content is None else json.dumps(content).encode()
    yield start
    yield from rest


def _without_mark(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf").strip()


def as_fields(value: object) -> Fields:
    """Return an object's fields, and none of anything else."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Fields]:
    """Return the objects in a list, and none of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a text, "" where there is none.

    Raises:
        CallError: It is something else.
    """
    if not isinstance(value, str | None):
        raise CallError(CUT, f"a text that is {shown(json.dumps(value), 40)}")
    return value or ""


def as_count(value: object) -> int | None:
    """Return a count, None of anything else: a text is not lost for it."""
    return value if type(value) is int and 0 <= value < _MOST else None


def as_seconds(nanoseconds: object) -> float:
    """Return nanoseconds as seconds, 0 of anything else."""
    if not isinstance(nanoseconds, int | float) or isinstance(nanoseconds, bool):
        return 0.0
    return nanoseconds / 1e9 if 0 <= nanoseconds < _MOST else 0.0


def shown(text: str, at_most: int = 300) -> str:
    """Return a server's words in one line that a terminal shows as they are.

    >>> print(shown("no\\n such\\x1b[31m  model"))
    no such\\u001b[31m model
    """
    return printable_line(" ".join(text.split())[:at_most])


def error_text(body: object) -> str:
    """Return what an error's body says; "" where it says nothing."""
    while isinstance(body, dict) and (named := [one for one in ("error", "message", "detail") if one in body]):
        body = body[named[0]]
    return body if isinstance(body, str) else json.dumps(body) if body else ""


def refusal_text(status: int, content: bytes, headers: Mapping[str, str], *, hidden: Callable[[str], str] = str) -> str:
    """Return what a refusal says, in one line: its status, and the body's words or else what the status means.

    `hidden` takes out what the server may know and nobody else.

    >>> refusal_text(404, b"<html>...", {}), refusal_text(500, b'{"error": "no memory"}', {})
    ('404 Not Found', '500 no memory')
    """
    body = json_of(content)
    is_page = content.lstrip().startswith(b"<")
    said = error_text(content.decode(errors="replace") if body is None and not is_page else body)
    if 300 <= status < 400:
        said = f"{responses.get(status, '')}: it points to {headers.get('Location', 'nowhere')}"
    return f"{status} {shown(scrubbed(hidden(said))) or responses.get(status, '')}".strip()
