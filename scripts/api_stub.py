"""Write src/actlab/__init__.pyi, from which editors and type checkers know the Python API.

python scripts/api_stub.py src/actlab/__init__.pyi

A function of a config has, at run time, one signature for every way of giving its settings. Here each way is an
overload: the config; all that must be given, by keywords; or a YAML file, which may hold that too.
"""

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import actlab
from actlab.ground.options import Option, options_of
from actlab.ground.options.fields import MISSING, groups_of

HEAD = '''"""{about}"""

# Made from the code by `make docs`; a test keeps it current.

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, overload

{imports}

_File = str | PathLike[str]
_Text = str | int | PathLike[str] | Sequence[str | int]
_Texts = str | int | PathLike[str] | Sequence[str | int | PathLike[str]]

__version__: str
__all__ = {names}

'''


def stub() -> str:
    """Return the stub: functions of a config with their settings, all else imported from where it is."""
    modules: set[str] = set()
    plain, functions = [], []
    for name in actlab.__all__:
        thing = getattr(actlab, name)
        if (config_class := config_of(thing)) is None:
            plain.append(f"from {thing.__module__} import {name} as {name}")
        else:
            functions.append("\n".join(overloads(thing, config_class, modules)))
    aliases = [f"from {one.rpartition('.')[0]} import {one.rpartition('.')[2]} as {alias(one)}" for one in modules]
    names = "[\n" + "".join(f'    "{name}",\n' for name in actlab.__all__) + "]"
    about = (actlab.__doc__ or "").partition("\n")[0]
    return HEAD.format(about=about, imports="\n".join(sorted([*plain, *aliases])), names=names) + "\n\n".join(functions)


def config_of(thing: object) -> type | None:
    """Return the config class of a function that `takes` has given its fields, or None."""
    wrapped = getattr(thing, "__wrapped__", None)
    first = next(iter(typing.get_type_hints(wrapped).values()), None) if wrapped else None
    return first if isinstance(first, type) and dataclasses.is_dataclass(first) else None


def overloads(function: Callable[..., object], config_class: type, modules: set[str]) -> Iterator[str]:
    """Yield the ways to call a function of a config."""
    config = written(config_class, modules)
    returns = written(typing.get_type_hints(function.__wrapped__)["return"], modules)
    options = options_of(config_class)
    must = [one for one in options if one.default is MISSING]
    ways = []
    if must:
        given = [f"{one.name}: {type_of(one)}" for one in must]
        ways.append(["*", *given, "config_path: _File | None = None", *optional(config_class, modules, without=must)])
    ways.append(["*", f"config_path: _File{' | None = None' if not must else ''}", *optional(config_class, modules)])
    ways.append(["config: " + config, "/"])
    doc = (inspect.getdoc(function) or "").partition("\n")[0]
    for way in ways:
        settings = "".join(f"    {one},\n" for one in way)
        yield f'@overload\ndef {function.__name__}(\n{settings}) -> {returns}:\n    """{doc}"""\n'


def optional(config_class: type, modules: set[str], without: list[Option] | tuple[Option, ...] = ()) -> Iterator[str]:
    """Yield the settings that may be left out: groups whole, and what in them has a name of its own."""
    groups = {name: of for name, of in groups_of(config_class).items() if "." not in name}
    for name, of in groups.items():
        yield f"{name}: {written(of, modules)} | Mapping[str, object] = ..."
    for one in options_of(config_class):
        name = one.alias if "." in one.name else one.name
        if name and one not in without:
            default = one.default
            is_written = default is not MISSING and (type(default) in (tuple, str, int, float, bool) or default is None)
            is_written = is_written and "Path(" not in repr(default)
            yield f"{name}: {type_of(one)} = {repr(default) if is_written else '...'}"


def type_of(option: Option) -> str:
    """Return what a setting takes: `from_settings` makes a text of a path or a number, and a tuple of one value."""
    one = f"Literal[{', '.join(map(repr, option.literals))}]" if option.literals else option.kind.__name__
    if one == "str" and option.table is None:
        one = "_Texts" if option.is_repeatable else "_Text"
    elif one == "Path":
        one = "_File | Sequence[_File]" if option.is_repeatable else "_File"
    elif option.is_repeatable:
        one = f"{one} | Sequence[{one}]"
    return f"{one} | None" if option.is_optional else one


def written(hint: object, modules: set[str]) -> str:
    """Return a type as the stub writes it; the modules that it needs are added."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(written(one, modules) for one in inside)
    if origin is not None:
        return f"{written(origin, modules)}[{', '.join(written(one, modules) for one in inside)}]"
    if hint is Ellipsis or hint is typing.Any:
        return "..." if hint is Ellipsis else "Any"
    assert isinstance(hint, type), hint
    if hint is types.NoneType:
        return "None"
    if hint.__name__ in actlab.__all__ or hint.__module__ in ("builtins", collections.abc.__name__):
        return hint.__name__
    modules.add(hint.__module__)
    return f"{alias(hint.__module__)}.{hint.__name__}"


def alias(module: str) -> str:
    """Return a module's name in the stub: classes of two modules may have the same name."""
    return "_" + module.removeprefix("actlab.").replace(".", "_")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(stub(), encoding="utf-8")
