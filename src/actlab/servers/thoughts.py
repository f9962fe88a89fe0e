"""What a model thinks before it answers, told from its answer, where no server has parted them."""

import re
from dataclasses import replace
from typing import NamedTuple

from actlab.servers.calls import LENGTH, STOP, THOUGHT, Reply

UNCLOSED, ALONE = "unfinished reasoning, no text", "a thought and no text"
"""What is wrong with a reply of thoughts alone."""

_TAG = r"(?:(?:seed:|ant)?think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
_MARKS = (
    (rf"<{_TAG}(?:\s+[\w-]+\s*=[^<>]*)?\s*>", rf"</{_TAG}\s*>"),  # DeepSeek-R1, Qwen3, GLM-4.5, Seed-OSS, and others
    (r"(?-i:\[THINK\])", r"(?-i:\[/THINK\])"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi-VL
    (r"<\|start_thinking\|>", r"<\|end_thinking\|>"),  # Command A
    (r"<\|channel>thought\b", r"<channel\|>"),  # Gemma 4
)
"""What begins and ends a thought, as the reasoning parsers of vLLM and llama.cpp and the models' cards have it."""
_OPENS, _CLOSES = ("|".join(marks) for marks in zip(*_MARKS, strict=True))
_SPAN = r"`[^`\n]*`"
_BEGIN = re.compile(rf"\s*({_OPENS})", re.IGNORECASE)
_END = re.compile(rf"{_SPAN}|(?P<closes>{_CLOSES})", re.IGNORECASE)
_MARK = re.compile(
    rf"^[ \t]*```.*?(?:^[ \t]*```|\Z)|{_SPAN}|(?P<opens>{_OPENS})|(?P<closes>{_CLOSES})",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
"""A mark, or code, in which there are none."""
_BEFORE, _AFTER = re.compile(r"[\w,;:][ \t]\Z"), re.compile(r"[ \t]*[,.;:!?)]|[ \t]+(?-i:[a-zß-öø-ÿ])")
"""Around a mark in the middle of a sentence, which is the sentence's object."""
_QUOTES = ('""', "''", "“”", "‘’", "«»", "()")
_TITLE = re.compile(r"[ \t]+[a-z]")
"""What follows a tag that is a title, as <Reflection> of light."""
_IN_WORDS = (
    (re.compile(r"\s*analysis(?=[A-Z\"'])"), re.compile(r"assistantfinal")),  # gpt-oss without its special tokens
    (re.compile(r"\s*Here(?:'s|’s| is) my thought process:"), re.compile(r"Here(?:'s|’s| is) my response:")),
)
"""Marks that are words, which count at the beginning alone. The second are Granite 3.2's."""
_CHANNELS = re.compile(
    r"\s*(?:<\|start\|>\s*assistant\s*)?"
    r"(?:<\|channel\|>\s*(?:(?:analysis|commentary|final)\b|\Z)|(?:analysis|commentary|final)\s*<\|message\|>)"
)
"""How a reply of gpt-oss begins, whose parts have names; the reader's are named final."""
_FINAL = re.compile(r"(?:<\|channel\|>\s*|\A\s*)final\b[^<]*<\|message\|>")
_CHANNEL_ENDS = re.compile(r"<\|(?:return|end|call|start|channel)\|>")
_UNTAGGED_START = re.compile(
    r"""\s*(?:ok(?:ay)?|alright|all\ right|hmm+)\b[,.!…\s]*(?:so\b[,\s]*)?
        (?:the\ user\ (?:wants|asks|asked|is\ asking|said|needs)\b
        |i\ need\ to\ (?:write|generate)\ [^.!?\n]{0,80}?\b(?:sentences?|texts?)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
"""How a thought begins that is opened in the prompt, as DeepSeek-R1's template does, and never ended."""
_WRAPPED = re.compile(
    r"<(answer|response|output|final_answer|\|start_response\|)>(.*?)(?:</\1>|<\|end_response\|>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
"""What some put around the answer that follows a thought."""


class Answer(NamedTuple):
    """A reply without its thoughts."""

    text: str
    thought: bool
    """Whether there were any."""
    unclosed: bool = False
    """Whether one of them does not end, so that there is no text."""


_UNCLOSED = Answer("", thought=True, unclosed=True)


def split_thoughts(text: str) -> Answer:
    """Tell what a model says from what it thinks.

    A thought begins at the start of a reply or after another one. An end whose beginning is missing closes a thought
    that the prompt opened: all before it is thought. Marks elsewhere, in code, and in the middle of a sentence are
    text.

    >>> split_thoughts("<think>A fish, hm.</think> A fish swims.").text
    'A fish swims.'
    >>> split_thoughts("A fish, hm.</think> A fish swims.").text
    'A fish swims.'
    >>> split_thoughts("<think>A fish, hm. Or a bird.")
    Answer(text='', thought=True, unclosed=True)
    """
    said, thought = _without_one(text), False
    while said.thought and not said.unclosed:
        said, thought = _without_one(said.text), True
    return said._replace(thought=thought or said.thought)


def _without_one(text: str) -> Answer:
    """Take out what one kind of marks encloses."""
    if _CHANNELS.match(text):
        return _of_channels(text)
    for opens, closes in _IN_WORDS:
        if opens.match(text):
            end = closes.search(text)
            return Answer(text[end.end() :].strip(), thought=True) if end else _UNCLOSED
    at = 0
    while (end_of_thought := _end_of_thought(text, at)) is not None:
        at = end_of_thought
    if at < 0 or (at == 0 and _UNTAGGED_START.match(text)):
        return _UNCLOSED
    if at == 0:
        return Answer(text, thought=False)
    kept = text[at:].strip()
    wrapped = _WRAPPED.match(kept)
    return Answer((wrapped[2].strip() + kept[wrapped.end() :]).strip() if wrapped else kept, thought=True)


def _end_of_thought(text: str, at: int) -> int | None:
    """Return where the thought ends that begins at a place or was begun before it; -1 where it does not."""
    if at < 0:
        return None
    begin = _BEGIN.match(text, at)
    if begin:
        end = next((mark for mark in _END.finditer(text, begin.end()) if mark["closes"]), None)
        if end:
            return end.end()
        if not (begin[1].istitle() and _TITLE.match(text, begin.end())):
            return -1
    n_open = 0
    for mark in _MARK.finditer(text, at):
        if mark["opens"]:
            n_open += 1
        elif mark["closes"] and n_open:
            n_open -= 1
        elif mark["closes"] and not _is_spoken_of(text, mark):
            return mark.end()
    return None


def _is_spoken_of(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark is quoted, or stands in the middle of a sentence."""
    if text[max(0, mark.start() - 1) : mark.start()] + text[mark.end() : mark.end() + 1] in _QUOTES:
        return True
    before = text[max(0, mark.start() - 2) : mark.start()]
    return bool(_BEFORE.search(before) and _AFTER.match(text, mark.end()))


def _of_channels(text: str) -> Answer:
    """Return what stands in the last channel that is for the reader."""
    finals = list(_FINAL.finditer(text))
    if not finals:
        return _UNCLOSED
    answer = text[finals[-1].end() :]
    ends = _CHANNEL_ENDS.search(answer)
    return Answer((answer[: ends.start()] if ends else answer).strip(), thought=True)


def without_thoughts(reply: Reply) -> Reply:
    """Return a reply as it would be made of the same text today: journals of version 0.2.0 have thoughts in theirs."""
    said = split_thoughts(reply.text)
    if not said.thought:
        return reply
    if said.text or reply.done_reason not in (STOP, LENGTH):
        return replace(reply, text=said.text)
    return replace(reply, text="", done_reason=THOUGHT, problem=UNCLOSED if said.unclosed else ALONE)
