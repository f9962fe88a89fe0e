"""Collect documents until a target is met: each text once, in the order in which they were asked for."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from actlab.backends.servers.calls import Reply
from actlab.backends.token_count import TokenCounter
from actlab.formats.documents import Document
from actlab.text.words import text_hash

_WINDOW = 200
_LEAST_ACCEPTED = 0.02
"""Of the last replies; below that the server repeats itself, and asking on would never end."""


@dataclass
class Collected:
    """The documents so far: the shortest prefix of what was offered that meets the target."""

    target: int
    documents: list[Document] = field(default_factory=list)
    n_tokens: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Texts that were not taken, by reason."""
    _seen: set[str] = field(default_factory=set)

    @property
    def is_met(self) -> bool:
        """Whether there are tokens enough."""
        return self.n_tokens >= self.target

    def offer(self, document: Document) -> bool:
        """Take a document, unless the target is met, it is empty or it is there already."""
        if self.is_met:
            return False
        key = text_hash(document.text)
        if document.n_tokens == 0 or key in self._seen:
            self.left_out["empty" if document.n_tokens == 0 else "exact duplicate"] += 1
            return False
        self._seen.add(key)
        self.documents.append(document)
        self.n_tokens += document.n_tokens
        return True

    def fill(self, documents: Iterable[Document], *, most: int) -> None:
        """Take from many until the target is met; give up after `most` of them."""
        for number, document in enumerate(documents):
            if self.is_met or number == most:
                return
            self.offer(document)


@dataclass
class Replies:
    """Turns a server's replies into documents, and sees when it goes nowhere."""

    collected: Collected
    counter: TokenCounter
    source: str
    model: str
    n_offered: int = 0
    _last: deque[bool] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def take(self, reply: Reply) -> None:
        """Offer a reply's text."""
        self.n_offered += 1
        text = reply.text.replace("\r\n", "\n").replace("\r", "\n").strip()
        if reply.failed or not text:
            self.collected.left_out[f"reply: {reply.done_reason}"] += 1
            self._last.append(False)
            return
        labels = {"model": self.model, "request": reply.k, "done_reason": reply.done_reason}
        document = Document(f"{self.source}-{reply.k:07d}", text, self.counter.count(text), self.source, labels)
        self._last.append(self.collected.offer(document))

    @property
    def stalled(self) -> bool:
        """Whether almost nothing new comes any more."""
        return len(self._last) == _WINDOW and sum(self._last) < _LEAST_ACCEPTED * _WINDOW
