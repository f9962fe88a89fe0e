"""Read a grammar from YAML, with errors that name the file and the symbol."""

import re
import reprlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeVar

from actlab.ground.errors import DataError, did_you_mean
from actlab.ground.limits import YAML_BYTES, read_text_at_most
from actlab.text.domains import DOMAINS
from actlab.text.templates.check import checked
from actlab.text.templates.content import Yaml, yaml_mapping
from actlab.text.templates.grammar import Alternative, Grammar, Slot, Template, Values, slots
from actlab.text.words import normal_form

_SECTIONS = ("domain", "keywords", "parameters", "variables", "pools", "symbols", "skeletons")
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6
"""Beyond them squares and sums of weights would leave a float's range; no use has been seen."""

_SLOT = re.compile(r"##|#([^\W\d]\w*)((?:\.[^\W\d]\w*)*)#")
_T = TypeVar("_T")
_ANY_NAME = re.compile(r"[^\W\d]\w*")


@cache
def domain_grammar(domain: str) -> Grammar:
    """Return the grammar of a domain.

    Raises:
        ConfigError: There is none.
    """
    return read_grammar(DOMAINS[domain].grammar)


def read_grammar(path: Path) -> Grammar:
    """Read and check a grammar; its syntax stands at the head of the `cooking` one.

    Raises:
        DataError: It is not there, is not YAML, or something in it (which the message names) is wrong.
    """
    try:
        text = read_text_at_most(path, YAML_BYTES, "utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check --grammar") from None
    except ValueError as error:
        raise DataError(
            f"{path} is no grammar: it is not UTF-8 ({error})", hint="save it as UTF-8, or name another file"
        ) from None
    return parse_grammar(text, where=str(path))


@lru_cache(maxsize=16)
def parse_grammar(text: str, *, where: str) -> Grammar:
    """Turn the YAML of a grammar into a grammar; `where` stands for the file in messages.

    Raises:
        DataError: As `read_grammar` does.
    """
    content = yaml_mapping(text, where, hint=f"a grammar has the sections {', '.join(_SECTIONS)}")
    if unknown := [name for name in content if name not in _SECTIONS]:
        hint = did_you_mean(unknown[0], _SECTIONS, otherwise=f"the sections are {', '.join(_SECTIONS)}")
        raise DataError(f"{where}: a grammar has no section {unknown[0]!r}", hint=hint)
    if not content.get("skeletons"):
        raise DataError(f"{where} has no skeletons", hint="add a mapping 'skeletons' of names to texts")

    def read(section: str, what: str, one: Callable[[Yaml, str], _T]) -> dict[str, _T]:
        """Read each thing of a section; errors say which it is."""
        named = _section(content, section, where)
        return {name: one(given, f"{where}: {what} {name!r}") for name, given in named.items()}

    pools = read("pools", "pool", lambda given, place: _distinct(_texts(given, place), place, normal_form))
    grammar = Grammar(
        where=where,
        domain=_domain(content.get("domain", Path(where).stem), where),
        keywords=read("keywords", "keyword", _weight),
        parameters=read("parameters", "parameter", _values),
        variables=read("variables", "variable", lambda given, place: _pooled(given, place, pools)),
        pools=pools,
        symbols=read("symbols", "symbol", _symbol),
        skeletons=read("skeletons", "skeleton", _skeleton),
    )
    _distinct(grammar.skeletons.values(), f"{where}: skeletons", _normal_template)
    return checked(grammar)


def _domain(given: Yaml, where: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise DataError(
            f"{where}: the domain is {_shown(given)}", hint="give it one name, or leave it out: then it is the file's"
        )
    return " ".join(given.split())


def _section(content: Mapping[str, Yaml], name: str, where: str) -> dict[str, Yaml]:
    section = content.get(name) or {}
    if not isinstance(section, dict):
        raise DataError(f"{where}: {name} is a {_kind(section)}", hint=f"{name} maps names to what they stand for")
    for key in section:
        if name != "keywords" and not _ANY_NAME.fullmatch(key):
            raise DataError(f"{where}: {name} has a name {key!r}", hint="a name is letters, digits and _")
    return section


def _pooled(given: Yaml, place: str, pools: Mapping[str, tuple[str, ...]]) -> Values:
    """Return a variable's values, which may be a pool's."""
    if not isinstance(given, dict) or "pool" not in given:
        return _values(given, place)
    _refuse_other_keys(given, ("pool",), place)
    pool = given["pool"]
    if not isinstance(pool, str) or pool not in pools:
        hint = did_you_mean(_shown(pool), pools, otherwise="name one of the section pools")
        raise DataError(f"{place} takes from a pool {_shown(pool)} that is not there", hint=hint)
    return Values(("",), tuple((text,) for text in pools[pool]), (1.0,) * len(pools[pool]), pool)


def _values(given: Yaml, place: str) -> Values:
    forms: tuple[str, ...] = ("",)
    if isinstance(given, dict) and "pool" in given:
        raise DataError(f"{place} takes from a pool, which only variables can", hint="make it a variable")
    if isinstance(given, dict):
        _refuse_other_keys(given, ("forms", "rows"), place)
        forms = _distinct(_texts(given.get("forms"), f"{place}: forms"), f"{place}: forms", str)
        weighted = [(_table_row(row, forms, place), 1.0) for row in _list(given.get("rows"), f"{place}: rows")]
    elif isinstance(first := _list(given, place)[0], dict) and "text" not in first:
        forms = tuple(form for form in first if form != "weight")
        weighted = [_mapping(one, forms, place) for one in _list(given, place)]
    else:
        weighted = [((_text(text, place),), weight) for text, weight in _weighted(given, place)]
    rows, weights = zip(*weighted, strict=True)
    return Values(forms, _distinct(rows, place, lambda row: tuple(map(normal_form, row))), weights)


def _refuse_other_keys(given: Mapping[str, Yaml], known: tuple[str, ...], place: str) -> None:
    if unknown := [key for key in given if key not in known]:
        hint = did_you_mean(unknown[0], known, otherwise=f"give {' and '.join(known)} alone, or list mappings of forms")
        raise DataError(f"{place} has a key {unknown[0]!r} that means nothing there", hint=hint)


def _mapping(one: Yaml, forms: tuple[str, ...], place: str) -> tuple[tuple[str, ...], float]:
    if not forms:
        raise DataError(f"{place} has a value without forms", hint="write {form: text, ...}")
    if not isinstance(one, dict) or set(one) - {"weight"} != set(forms):
        raise DataError(f"{place}: {_shown(one)} has other forms than the first value", hint=f"give {', '.join(forms)}")
    return tuple(_text(one[form], place) for form in forms), _weight(one.get("weight", "1"), place)


def _table_row(row: Yaml, forms: tuple[str, ...], place: str) -> tuple[str, ...]:
    cells: Yaml = [cell.strip() for cell in row.split("|")] if isinstance(row, str) else row
    if not isinstance(cells, list) or len(cells) != len(forms):
        raise DataError(
            f"{place}: row {_shown(row)} does not have {len(forms)} forms", hint=f"give {' | '.join(forms)}"
        )
    return tuple(_text(cell, place) for cell in cells)


def _symbol(given: Yaml, place: str) -> tuple[Alternative, ...]:
    written = [Alternative(parse_template(text, place), weight) for text, weight in _weighted(given, place)]
    _distinct((one.template for one in written), place, _normal_template)
    return tuple(written)


def _skeleton(given: Yaml, place: str) -> Template:
    return parse_template(" ".join(_texts(given if isinstance(given, list) else [given], place)), place)


def parse_template(text: Yaml, place: str) -> Template:
    """Cut a text into literals and slots; forms and modifiers are told apart later, by `checked`.

    >>> parse_template("Add #spice.a#.", "here")
    ('Add ', Slot(name='spice', form='', modifiers=('a',)), '.')
    >>> parse_template("C## is item ##1", "here")
    ('C# is item #1',)

    Raises:
        DataError: It is empty, or has a # that is no slot.
    """
    text = _text(text, place)
    if "#" in _SLOT.sub("", text):
        raise DataError(
            f"{place}: {text[:80]!r} has a # that is no slot",
            hint="a slot is #name# or #name.modifier#; write ## for a # in the text",
        )
    pieces: list[str | Slot] = []
    literal, end = "", 0
    for match in _SLOT.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match[0] == "##":
            literal += "#"
        else:
            pieces += [literal, Slot(match[1], "", tuple(match[2].split(".")[1:]))]
            literal = ""
    pieces.append(literal + text[end:])
    return tuple(piece for piece in pieces if piece != "")


def _list(given: Yaml | None, place: str) -> list[Yaml]:
    if not isinstance(given, list) or not given:
        what = "is empty" if given in (None, "", []) else f"is a {_kind(given)}"
        raise DataError(f"{place} {what}", hint="give it a list with at least one entry")
    return given


def _texts(given: Yaml | None, place: str) -> list[str]:
    return [_text(one, place) for one in _list(given, place)]


def _weighted(given: Yaml, place: str) -> Iterator[tuple[Yaml, float]]:
    """Yield what a list has, as it is or with a weight."""
    for one in _list(given, place):
        if isinstance(one, dict):
            if set(one) - {"text", "weight"} or "text" not in one:
                raise DataError(f"{place}: {_shown(one)} is no alternative", hint="write {text: ..., weight: ...}")
            yield one["text"], _weight(one.get("weight", "1"), place)
        elif isinstance(one, list):
            if len(one) != 2:
                raise DataError(f"{place}: {_shown(one)} is no alternative", hint="write [text, weight]")
            yield one[0], _weight(one[1], place)
        else:
            yield one, 1.0


def _weight(given: Yaml, place: str) -> float:
    weight = 0.0
    with suppress(ValueError):
        weight = float(given) if isinstance(given, str) else 0.0
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise DataError(
            f"{place} has the weight {_shown(given)}",
            hint=f"a weight is a number from {MIN_WEIGHT:f} to {MAX_WEIGHT:,.0f}",
        )
    return weight


def _text(given: Yaml, place: str) -> str:
    if not isinstance(given, str):
        raise DataError(
            f"{place}: {_shown(given)} is no text",
            hint="put it into quotes; only lists of symbols, variables and parameters have weights",
        )
    text = re.sub(r" ?\n ?", "\n", re.sub(r"[^\S\n]+", " ", given)).strip()
    if not text:
        raise DataError(
            f"{place} has an empty text", hint="write what is optional as two alternatives, with it and without"
        )
    return text


def _distinct(values: Iterable[_T], place: str, key: Callable[[_T], Hashable]) -> tuple[_T, ...]:
    """Return values of which no two have one key."""
    listed = tuple(values)
    keys = [key(value) for value in listed]
    if len(set(keys)) < len(keys):
        times = Counter(keys)
        twice = next(value for value, one in zip(listed, keys, strict=True) if times[one] > 1)
        raise DataError(
            f"{place} has {_shown(twice)} twice",
            hint="keep one, with a weight if it should be frequent; case and white space do not tell texts apart",
        )
    return listed


def _normal_template(template: Template) -> Hashable:
    """Return what two templates share that say the same: duplicates are found by their normal form too."""
    text = "".join(piece if isinstance(piece, str) else "\0" for piece in template)
    return normal_form(text), tuple(slots(template))


def _kind(given: object) -> str:
    return "text" if isinstance(given, str) else "mapping" if isinstance(given, dict) else "list"


def _shown(given: object) -> str:
    """Return a value's repr, cut while it is made: aliases of aliases would fill memory."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring = 2, 80
    return short.repr(given)[:300]
