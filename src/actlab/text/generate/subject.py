"""Whether text is about its prompt: the share of documents that hold a word of the prompt's subject."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from actlab.formats.documents import Document
from actlab.ground.log import log
from actlab.text.domains import DOMAINS
from actlab.text.templates.detect import COMMON
from actlab.text.templates.engine import Compiled
from actlab.text.templates.grammar import Grammar
from actlab.text.templates.stems import parts_of, stem, stems_of
from actlab.text.words import is_unspaced, normal_form

ENOUGH = 0.5
"""Below this share the text is said not to follow its prompt."""

_FORMS = """article basic best collection corpus create data dataset describe description different document easy
    essay every example explain few generate good guide great idea instruction list little long many more most new nice
    note old paragraph passage piece produce quick sample several small story tale thing tip top topic various word"""
"""Words that say what form a text is to have, or how good it is to be, and not what it is about."""
_FUNCTION_WORDS = """after again all also am anybody anyone anything because been before being between both but can
    could did does don't during each else everybody everyone everything had has he her here herself him himself his if
    itself just let like may more myself need no nobody nor not nothing now one oneself only other ourselves own she
    should so somebody someone something such themselves then there through too under until us using very want was we
    were when where which while who whom whose why will within without would yourself yourselves"""
_NAMED_LETTER = re.compile(r"(?<![\w.'’&-])[B-HJ-Z](?![\w'’&-]|\.\s*\w)")
"""A letter that is a word, as of a language for computers; not an initial, an abbreviation's, "A" and "I"."""
_SAMPLE = 50
"""Texts of a grammar that show in which scripts it writes."""

TOO_OLD = "it was sealed before this was measured"


class SubjectShare(NamedTuple):
    """How much of a text is about its prompt: a measure of what was made, which changes nothing of it."""

    subject_words: list[str]
    """What a prompt asks for beyond its domain: its words in lower case, each stem once."""
    subject_share: float | None
    """Of the documents; None where it is not measured, or not yet."""
    subject_unmeasured: str | None
    """Why it is not to be."""


def subject_words(prompt: str, grammar: Grammar) -> list[str]:
    """Return a prompt's words without those that say nothing and those that only name the grammar's domain.

    >>> from actlab.text.templates.read import domain_grammar
    >>> [subject_words(prompt, domain_grammar("cooking")) for prompt in ("simple recipes", "how to make pasta")]
    [[], ['pasta']]
    """
    idle = stems_of(" ".join([*COMMON, _FORMS, _FUNCTION_WORDS])) | _names_of(grammar)
    found: dict[str, str] = {}
    letters = {letter.lower() for letter in _NAMED_LETTER.findall(unicodedata.normalize("NFKC", prompt))}
    for word in parts_of(normal_form(prompt)):
        if not word.isdigit() and (word in letters or len(word) > 1 or not word.isascii()):
            found.setdefault(stem(word), word)
    return [word for one, word in found.items() if one not in idle]


def prompt_subject(prompt: str, compiled: Compiled) -> SubjectShare:
    """Return the subject of a prompt, as far as it is written in a script of the grammar's own text, with spaces.

    Without spaces it is not known which runs of letters are words: "一个" is no subject, but would be found.
    """
    words, domain = subject_words(prompt, compiled.grammar), compiled.grammar.domain
    if not words:
        is_word = any(len(part) > 1 and not part.isdigit() for part in parts_of(normal_form(prompt)))
        nothing = f"names the domain {domain} and nothing in it" if is_word else "has no word that could be looked for"
        return SubjectShare([], None, f"the prompt {nothing}")
    known = set().union(*(_scripts(compiled.generate(0, k).text) for k in range(_SAMPLE)))
    readable = [word for word in words if _scripts(word) <= known]
    spaced = [word for word in readable if not is_unspaced(word)]
    if spaced:
        return SubjectShare(spaced, None, None)
    if readable:
        return SubjectShare(readable, None, "the prompt is in a script that does not tell words apart by spaces")
    scripts = ", ".join(sorted(_scripts("".join(words)) - known))
    return SubjectShare(words, None, f"the prompt is in a script ({scripts}) that the grammar of {domain} lacks")


def measure(subject: SubjectShare, documents: Iterable[Document]) -> SubjectShare:
    """Return the share of documents that hold one of the subject's words, by stems."""
    if subject.subject_unmeasured is not None:
        return subject
    wanted = frozenset(map(stem, subject.subject_words))
    holds = [not wanted.isdisjoint(map(stem, parts_of(normal_form(one.text)))) for one in documents]
    return subject._replace(subject_share=round(sum(holds) / len(holds), 6) if holds else None)


def describe(found: SubjectShare, documents: Callable[[float], str]) -> str:
    """Return the share in words, for one line; `documents` says of how many documents a share is."""
    if found.subject_share is None:
        return f"subject not measured: {found.subject_unmeasured}"
    words = ", ".join(found.subject_words)
    return f"{documents(found.subject_share)} hold a word of the prompt's subject ({words})"


def say(found: SubjectShare, sources: Mapping[str, int], domain: str) -> None:
    """Log the share, as a warning where it is below a half; `sources` counts the documents by what made them."""
    n = sum(sources.values())
    told = describe(found, lambda share: f"{round(share * n)} of {n} documents")
    if found.subject_share is None or found.subject_share >= ENOUGH:
        log.info("%s", told)
    elif set(sources) == {"template"}:
        log.warning("only %s: the grammar of %s does not follow prompts, a model (ollama, openai) does", told, domain)
    else:
        log.warning("only %s", told)


def _names_of(grammar: Grammar) -> frozenset[str]:
    """Return the stems of the keywords that name a grammar's domain as a whole."""
    things = " ".join(one.things or "" for one in DOMAINS if one.name == grammar.domain)
    return frozenset(map(stem, grammar.keywords)) - stems_of(things)


def _scripts(text: str) -> set[str]:
    """Return the scripts of a text's letters, by the first word of their Unicode names, as "Cyrillic"."""
    names = {unicodedata.name(one, "UNKNOWN").split()[0] for one in set(text) if one.isalpha()}
    return {name if name == "CJK" else name.capitalize() for name in names}
