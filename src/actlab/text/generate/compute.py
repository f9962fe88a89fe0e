"""Collect documents until a target is met: each text once, in the order in which they were asked for."""

import unicodedata
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice, takewhile

from actlab.backends.token_count import TokenCounter
from actlab.formats.documents import UNPRINTABLE, Document
from actlab.servers.calls import LENGTH, Reply
from actlab.servers.fields import shown
from actlab.text.refusals import is_refusal
from actlab.text.words import text_hash

_WINDOW = 200
_LEAST_ACCEPTED = 0.02
"""Of the last replies; below that the server repeats itself, and asking on would never end."""
_IN_A_ROW = 10
"""Replies by which a model is seen that says the same, no, or half a sentence, to everything."""
_MOST_ALIKE = 3
"""Different texts among those of a model that says the same: each was asked for in other words."""


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
        for document in takewhile(lambda _: not self.is_met, islice(documents, most)):
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
    _alike: deque[str] = field(default_factory=lambda: deque(maxlen=_IN_A_ROW))
    _text: str = ""
    _n_refusals: int = 0
    """In a row."""
    _n_cut: int = 0
    """Replies in a row whose length ended them before a sentence did."""

    def take(self, reply: Reply) -> None:
        """Offer a reply's text."""
        self.n_offered += 1
        text = reply.text.replace("\r\n", "\n").replace("\r", "\n").strip()
        self._n_cut = 0 if text or reply.done_reason != LENGTH else self._n_cut + 1
        if unusable := self._unusable(reply, text):
            self.collected.left_out[unusable] += 1
            self._last.append(False)
            return
        labels = {"model": self.model, "request": reply.k, "done_reason": reply.done_reason}
        document = Document(f"{self.source}-{reply.k:07d}", text, self.counter.count(text), self.source, labels)
        self._last.append(self.collected.offer(document))

    def _unusable(self, reply: Reply, text: str) -> str:
        """Return why a reply's text cannot be one of the documents; "" where it can."""
        if reply.failed or not text:
            return f"reply: {reply.done_reason}"
        if UNPRINTABLE.search(text):
            return "reply: control characters"
        self._text = text
        self._alike.append(_letters(text))
        self._n_refusals = self._n_refusals + 1 if is_refusal(text) else 0
        return "refusal" if self._n_refusals else ""

    @property
    def cut_short(self) -> bool:
        """Whether the last replies were all too short for a sentence."""
        return self._n_cut >= _IN_A_ROW

    @property
    def stalled(self) -> str:
        """Why asking on would give almost nothing new; "" where it would."""
        if self.cut_short:
            return f"the last {self._n_cut} replies were cut by length before a sentence ended"
        if self._n_refusals >= _IN_A_ROW:
            return f"the last {self._n_refusals} replies are refusals, e.g. {shown(self._text, 60)!r}"
        if len(self._alike) == _IN_A_ROW and len(set(self._alike)) <= _MOST_ALIKE:
            return f"the last {_IN_A_ROW} replies are alike, e.g. {shown(self._text, 60)!r}"
        if len(self._last) == _WINDOW and sum(self._last) < _LEAST_ACCEPTED * _WINDOW:
            why = ", ".join(f"{reason} {n}" for reason, n in self.collected.left_out.most_common(2))
            return f"of the last {_WINDOW} replies almost nothing new came; left out in all: {why}"
        return ""


def _letters(text: str) -> str:
    """Return what is left of a text without case, punctuation and white space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(one for one in folded if unicodedata.category(one)[0] not in "PZSC")
