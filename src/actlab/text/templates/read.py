"""Read a grammar from YAML, with errors that name the file and the symbol."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from actlab.ground.errors import ConfigError, DataError, did_you_mean
from actlab.text.templates.check import checked
from actlab.text.templates.content import yaml_mapping
from actlab.text.templates.grammar import Alternative, Grammar, Slot, Template, Values

GRAMMARS = Path(__file__).parent.parent / "grammars"

_SECTIONS = ("domain", "keywords", "parameters", "variables", "pools", "symbols", "skeletons")
_SLOT = re.compile(r"#([^\W\d]\w*)((?:\.[^\W\d]\w*)*)#")
_ANY_NAME = re.compile(r"[^\W\d]\w*")


def domains() -> list[str]:
    """Return the domains that have a grammar here."""
    return sorted(path.stem for path in GRAMMARS.glob("*.yaml"))


def domain_path(domain: str) -> Path:
    """Return the file of the grammar that ships for a domain.

    Raises:
        ConfigError: There is none.
    """
    if domain not in (known := domains()):
        otherwise = f"use one of {', '.join(known)}, or give your own with --grammar"
        raise ConfigError(f"there is no domain {domain!r}", hint=did_you_mean(domain, known, otherwise=otherwise))
    return GRAMMARS / f"{domain}.yaml"


@cache
def domain_grammar(domain: str) -> Grammar:
    """Return the grammar that ships for a domain.

    Raises:
        ConfigError: There is none.
    """
    return read_grammar(domain_path(domain))


def read_grammar(path: Path) -> Grammar:
    """Read and check a grammar; its syntax stands at the head of the `cooking` one.

    Raises:
        DataError: It is not there, is not YAML, or something in it (which the message names) is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check --grammar") from None
    except ValueError as error:
        raise DataError(f"{path} is not UTF-8: {error}", hint="save it as UTF-8") from None
    return parse_grammar(text, where=str(path))


def parse_grammar(text: str, *, where: str) -> Grammar:
    """Turn the YAML of a grammar into a grammar; `where` stands for the file in messages.

    Raises:
        DataError: As `read_grammar` does.
    """
    content = yaml_mapping(text, where, hint=f"a grammar has the sections {', '.join(_SECTIONS)}")
    if unknown := [str(name) for name in content if name not in _SECTIONS]:
        hint = did_you_mean(unknown[0], _SECTIONS, otherwise=f"the sections are {', '.join(_SECTIONS)}")
        raise DataError(f"{where} has no section {unknown[0]!r} to fill", hint=hint)
    if not content.get("skeletons"):
        raise DataError(f"{where} has no skeletons", hint="add a mapping 'skeletons' of names to texts")
    sections = {name: _section(content, name, where) for name in _SECTIONS[1:]}
    pools = {name: _pool(name, listed, where) for name, listed in sections["pools"].items()}
    grammar = Grammar(
        where=where,
        domain=str(content.get("domain", Path(where).stem)),
        keywords={word: _weight(weight, f"{where}: keyword {word!r}") for word, weight in sections["keywords"].items()},
        parameters={
            name: _values(given, f"{where}: parameter {name!r}", {}) for name, given in sections["parameters"].items()
        },
        variables={
            name: _values(given, f"{where}: variable {name!r}", pools) for name, given in sections["variables"].items()
        },
        pools=pools,
        symbols={name: _symbol(name, given, where) for name, given in sections["symbols"].items()},
        skeletons={name: _skeleton(name, given, where) for name, given in sections["skeletons"].items()},
    )
    return checked(grammar)


def _section(content: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = content.get(name) or {}
    if not isinstance(section, dict):
        raise DataError(
            f"{where}: {name} is a {type(section).__name__}", hint=f"{name} maps names to what they stand for"
        )
    for key in section:
        if not isinstance(key, str) or (name != "keywords" and not _ANY_NAME.fullmatch(key)):
            raise DataError(
                f"{where}: {name} has a name {key!r}",
                hint="a name is letters, digits and _ (quote words like on and no)",
            )
    return section


def _pool(name: str, given: Any, where: str) -> tuple[str, ...]:
    place = f"{where}: pool {name!r}"
    return _distinct([_text(value, place) for value in _list(given, place)], place)


def _values(given: Any, place: str, pools: Mapping[str, tuple[str, ...]]) -> Values:
    if isinstance(given, dict) and "pool" in given:
        pool = given["pool"]
        if not isinstance(pool, str) or pool not in pools:
            hint = did_you_mean(str(pool), pools, otherwise="name one of the section pools")
            raise DataError(f"{place} takes from a pool {pool!r} that is not there", hint=hint)
        return Values(("",), tuple((text,) for text in pools[pool]), (1.0,) * len(pools[pool]), pool)
    if isinstance(given, dict):
        forms = _distinct([str(form) for form in _list(given.get("forms"), f"{place}: forms")], f"{place}: forms")
        rows = [_table_row(row, forms, place) for row in _list(given.get("rows"), f"{place}: rows")]
        return Values(forms, _distinct([tuple(row) for row in rows], place), (1.0,) * len(rows))
    listed = _list(given, place)
    if isinstance(listed[0], dict) and "text" not in listed[0]:
        return _mappings(listed, place)
    weighted = [_weighted(one, place) for one in listed]
    texts = [_text(text, place) for text, _ in weighted]
    return Values(("",), tuple((text,) for text in _distinct(texts, place)), tuple(weight for _, weight in weighted))


def _mappings(listed: list[Any], place: str) -> Values:
    forms = tuple(str(form) for form in listed[0] if form != "weight")
    if not forms:
        raise DataError(f"{place} has a value without forms", hint="write {form: text, ...}")
    rows, weights = [], []
    for one in listed:
        if not isinstance(one, dict) or {str(form) for form in one} - {"weight"} != set(forms):
            raise DataError(
                f"{place}: {one!r} has other forms than the first value"[:300], hint=f"give {', '.join(forms)}"
            )
        rows.append(tuple(_text(one[form], place) for form in forms))
        weights.append(_weight(one.get("weight", 1), place))
    return Values(forms, _distinct(rows, place), tuple(weights))


def _table_row(row: Any, forms: tuple[str, ...], place: str) -> list[str]:
    cells = [cell.strip() for cell in row.split("|")] if isinstance(row, str) else row
    if not isinstance(cells, list) or len(cells) != len(forms):
        raise DataError(
            f"{place}: row {row!r} does not have {len(forms)} forms"[:300], hint=f"give {' | '.join(forms)}"
        )
    return [_text(cell, place) for cell in cells]


def _symbol(name: str, given: Any, where: str) -> tuple[Alternative, ...]:
    place = f"{where}: symbol {name!r}"
    weighted = [_weighted(one, place) for one in _list(given, place)]
    templates = _distinct([parse_template(text, place) for text, _ in weighted], place)
    return tuple(Alternative(template, weight) for template, (_, weight) in zip(templates, weighted, strict=True))


def _skeleton(name: str, given: Any, where: str) -> Template:
    place = f"{where}: skeleton {name!r}"
    sentences = given if isinstance(given, list) else [given]
    if not sentences:
        raise DataError(f"{place} is empty", hint="give it a text, or a list of sentences")
    return parse_template(" ".join(_text(sentence, place) for sentence in sentences), place)


def parse_template(text: Any, place: str) -> Template:
    """Cut a text into literals and slots; forms and modifiers are told apart later, by `checked`.

    >>> parse_template("Add #spice.a#.", "here")
    ('Add ', Slot(name='spice', form='', modifiers=('a',)), '.')

    Raises:
        DataError: It is empty, or has a # that is no slot.
    """
    text = _text(text, place)
    pieces: list[str | Slot] = []
    end = 0
    for match in _SLOT.finditer(text):
        pieces += [text[end : match.start()], Slot(match[1], "", tuple(match[2].split(".")[1:]))]
        end = match.end()
    pieces.append(text[end:])
    if any(isinstance(piece, str) and "#" in piece for piece in pieces):
        raise DataError(f"{place}: {text[:80]!r} has a # that is no slot", hint="a slot is #name# or #name.modifier#")
    return tuple(piece for piece in pieces if piece != "")


def _list(given: Any, place: str) -> list[Any]:
    if not isinstance(given, list) or not given:
        what = "is empty" if given in (None, []) else f"is a {type(given).__name__}"
        raise DataError(f"{place} {what}", hint="give it a list with at least one entry")
    return given


def _weighted(one: Any, place: str) -> tuple[Any, float]:
    if isinstance(one, dict):
        if set(one) - {"text", "weight"} or "text" not in one:
            raise DataError(f"{place}: {one!r} is no alternative"[:300], hint="write {text: ..., weight: ...}")
        return one["text"], _weight(one.get("weight", 1), place)
    if isinstance(one, list):
        if len(one) != 2:
            raise DataError(f"{place}: {one!r} is no alternative"[:300], hint="write [text, weight]")
        return one[0], _weight(one[1], place)
    return one, 1.0


def _weight(given: Any, place: str) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < float("inf"):
        raise DataError(f"{place} has the weight {given!r}", hint="a weight is a number above zero")
    return float(given)


def _text(given: Any, place: str) -> str:
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str):
        raise DataError(f"{place}: {given!r} is no text"[:300], hint="put it in quotes (yes, no, on and off need them)")
    text = re.sub(r" ?\n ?", "\n", re.sub(r"[^\S\n]+", " ", given)).strip()
    if not text:
        raise DataError(
            f"{place} has an empty text", hint="write what is optional as two alternatives, with it and without"
        )
    return text


def _distinct(texts: list[Any], place: str) -> tuple[Any, ...]:
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise DataError(
            f"{place} has {twice!r} twice"[:300], hint="keep one, and give it a weight if it should be frequent"
        )
    return tuple(texts)
