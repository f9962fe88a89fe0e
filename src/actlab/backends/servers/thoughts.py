"""What a model thinks before it answers, told from its answer, where no server has parted them."""

import re
from dataclasses import replace
from typing import NamedTuple

from actlab.backends.servers.calls import LENGTH, STOP, THOUGHT, Reply

UNCLOSED, ALONE = "a thought that does not end", "a thought and no text"
"""What is wrong with a reply of thoughts alone."""

_TAG = r"(?:(?:seed:|ant)?think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
_MARKS = (
    (rf"<{_TAG}(?:\s[^<>]*)?>", rf"</{_TAG}\s*>"),  # DeepSeek-R1, Qwen3, GLM-4.5, Seed-OSS, and those prompted for it
    (r"\[think\]", r"\[/think\]"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi-VL
    (r"<\|start_thinking\|>", r"<\|end_thinking\|>"),  # Command A
    (r"<\|channel>thought\b", r"<channel\|>"),  # Gemma 4
)
"""What begins and ends a thought, as the reasoning parsers of vLLM and llama.cpp and the models' cards have it."""
_MARK = re.compile(
    f"(?P<opens>{'|'.join(opens for opens, _ in _MARKS)})|{'|'.join(closes for _, closes in _MARKS)}", re.IGNORECASE
)
_IN_WORDS = (
    (re.compile(r"\s*analysis(?=[A-Z\"'])"), re.compile(r"assistantfinal")),  # gpt-oss without its special tokens
    (re.compile(r"\s*Here(?:'s|’s| is) my thought process:"), re.compile(r"Here(?:'s|’s| is) my response:")),
)
"""Marks that are words, which count at the beginning alone. The second are Granite 3.2's."""
_CHANNEL = "<|channel|>"
"""Begins a part of a reply of gpt-oss; the reader's are named final."""
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_CHANNEL_ENDS = re.compile(r"<\|(?:return|end|call|start|channel)\|>")
_ALOUD = re.compile(
    r"""\s*(?:ok(?:ay)?|alright|all\ right|hmm+)\b[,.!…\s]*(?:so\b[,\s]*)?
        (?:the\ user\b|(?:i|we)\ (?:need|have)\ to\ (?:write|create|generate|produce|craft|come\ up)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
"""How a thought begins that is opened in the prompt, as DeepSeek-R1's template does, and never ended."""
_WRAPPED = re.compile(
    r"<(answer|response|output|final_answer|\|start_response\|)>(.*?)(?:</\1>|<\|end_response\|>)?",
    re.IGNORECASE | re.DOTALL,
)
"""What some put around the answer that follows a thought."""


class Spoken(NamedTuple):
    """A reply without its thoughts."""

    text: str
    thought: bool
    """Whether there were any."""
    unclosed: bool = False
    """Whether one of them does not end, so that there is no text."""


_UNCLOSED = Spoken("", thought=True, unclosed=True)


def spoken(text: str) -> Spoken:
    """Tell what a model says from what it thinks.

    An end whose beginning is missing closes a thought that the prompt opened: all before it is thought.

    >>> spoken("<think>A fish, hm.</think> A fish swims.").text, spoken("A fish, hm.</think> A fish swims.").text
    ('A fish swims.', 'A fish swims.')
    >>> spoken("<think>A fish, hm. Or a bird.")
    Spoken(text='', thought=True, unclosed=True)
    """
    said, thought = _without_one(text), False
    while said.thought and not said.unclosed:
        said, thought = _without_one(said.text), True
    return said._replace(thought=thought or said.thought)


def _without_one(text: str) -> Spoken:
    """Take out what one kind of marks encloses."""
    if _CHANNEL in text:
        return _of_channels(text)
    for opens, closes in _IN_WORDS:
        if opens.match(text):
            end = closes.search(text)
            return Spoken(text[end.end() :].strip(), thought=True) if end else _UNCLOSED
    kept, at, inside = "", 0, False
    for mark in _MARK.finditer(text):
        if not mark["opens"]:
            kept, at, inside = (kept if inside else ""), mark.end(), False
        elif not inside:
            kept, inside = kept + text[at : mark.start()], True
    if inside or (at == 0 and _ALOUD.match(text)):
        return _UNCLOSED
    if at == 0:
        return Spoken(text, thought=False)
    kept = (kept + text[at:]).strip()
    wrapped = _WRAPPED.fullmatch(kept)
    return Spoken(wrapped[2].strip() if wrapped else kept, thought=True)


def _of_channels(text: str) -> Spoken:
    """Return what stands in the last channel that is for the reader."""
    finals = list(_FINAL.finditer(text))
    if not finals:
        return _UNCLOSED
    answer = text[finals[-1].end() :]
    ends = _CHANNEL_ENDS.search(answer)
    return Spoken((answer[: ends.start()] if ends else answer).strip(), thought=True)


def without_thoughts(reply: Reply) -> Reply:
    """Return a reply as it would be made of the same text today: journals of version 0.2.0 have thoughts in theirs."""
    said = spoken(reply.text)
    if not said.thought:
        return reply
    if said.text or reply.done_reason not in (STOP, LENGTH):
        return replace(reply, text=said.text)
    return replace(reply, text="", done_reason=THOUGHT, problem=UNCLOSED if said.unclosed else ALONE)
