"""What the fields of a config dataclass say."""

import dataclasses
import functools
import itertools
import os
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeGuard, TypeVar

from actlab.ground.errors import ConfigError
from actlab.ground.units import Part

if TYPE_CHECKING:
    from actlab.ground.variants import Table, Variant

MISSING: Any = dataclasses.MISSING
Default = TypeVar("Default")
V = TypeVar("V", bound="Variant")


def setting(default: Default = MISSING, *, flag: str) -> Default:
    """Declare a field of a group that has a flag of its own, as `flag="seed"` gives --seed."""
    return field(default=default, metadata={"flag": flag})


def secret() -> str | None:
    """Declare a field whose value no message may show."""
    return field(default=None, metadata={"execution": True, "secret": True})


def execution(default: Default = MISSING, *, flag: str | None = None) -> Default:
    """Declare a field that does not change the data: output, part, device, quiet, …; without default it is required."""
    return field(default=default, metadata={"execution": True, "flag": flag})


def added(default: Default) -> Default:
    """Declare a setting that datasets from before it lack: at its default it is no part of the identity."""
    return field(default=default, metadata={"added": True})


def chosen(
    table: "Table[V]", default: Default = MISSING, *, is_execution: bool = False, is_added: bool = False
) -> Default:
    """Declare a field that names a variant of a table, or several; `is_added` as `added` has it."""
    return field(default=default, metadata={"execution": is_execution, "table": table, "added": is_added})


def argument() -> Any:
    """Declare a field that the command line takes by position, without a flag."""
    return field(metadata={"execution": True, "argument": True})


def group(default: Default, *, is_execution: bool = False) -> Default:
    """Declare a group of settings by its default, an instance of a frozen dataclass."""
    return field(default=default, metadata={"execution": is_execution})


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """The words that every command shares which writes something."""

    job: ClassVar[str] = ""
    """The module that has the command's `jobs_of`."""
    makes_many: ClassVar[bool] = False
    """Whether the command makes several datasets, so that `--json` prints a list."""
    plugins: tuple[str, ...] = execution(())
    """A module of your own that adds variants to actlab's: its name, or a .py file. May be given several times."""
    overwrite: bool = execution(False)
    """Replace a dataset made with other settings, or a damaged one; the old one stays until the new one is sealed."""
    dry_run: bool = execution(False)
    """Print the plan (units, records, tokens, bytes, memory) and stop."""
    quiet: bool = execution(False)
    """Show no bar and no log, only warnings and errors."""
    json: bool = execution(False)
    """Print results on stdout as JSON."""

    def __post_init__(self) -> None:
        for option in options_of(type(self)):
            if option.kind is Path and "." not in option.name:
                object.__setattr__(self, option.name, _as_paths(getattr(self, option.name)))


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return a text as a path, with "~" spelt out."""
    return Path(os.path.expanduser(value))


def _as_paths(value: object) -> object:
    if isinstance(value, tuple | list):
        return tuple(map(_as_paths, value))
    return as_path(value) if isinstance(value, str | os.PathLike) else value


def check_counts(config: object, *names: str, least: int = 1, most: int = 1_000_000_000) -> None:
    """Refuse numbers of a config that are too small or too large; None is none.

    Raises:
        ConfigError: One is.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            what, hint = ("small", f"{least} or more") if value < least else ("large", f"at most {most}")
            raise ConfigError(f"--{name.replace('_', '-')} {value} is too {what}", hint=f"use {hint}")


@dataclass(frozen=True, kw_only=True)
class RunOptions(CommonOptions):
    """The words that every command shares whose work is cut into units."""

    part: str | None = execution(None)
    """Do a share of the units, as "2/3": one task of a Slurm array. The last to finish seals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Part.parse(self.part or "1/1")


@dataclass(frozen=True)
class Option:
    """A field of a config as every reader of settings sees it."""

    name: str
    """`limit`, or `model.num_layers.min` in a group."""
    kind: type
    """str, Path, int, float or bool; `object` is taken as it stands."""
    default: object
    """`dataclasses.MISSING` where a value must be given."""
    literals: tuple[str, ...]
    """The values that a Literal allows."""
    is_optional: bool
    is_repeatable: bool
    is_execution: bool
    is_argument: bool
    is_secret: bool = False
    is_added: bool = False
    table: "Table[Variant] | None" = None
    """The variants that it names one of, where it does."""
    alias: str | None = None
    """The short name of a group's setting that has a flag of its own."""
    fields: tuple[tuple[type, str], ...] = ()
    """The dataclass and the name of each field on the way to it: its groups', then its own."""

    @property
    def choices(self) -> tuple[str, ...]:
        """What may be given, where that is a closed list."""
        return self.literals if self.table is None else self.table.names

    @property
    def help(self) -> str:
        """What the sources say under the fields, read when it is asked for, and what a table says of its variants."""
        said = [_docs_of(owner).get(name, "") for owner, name in self.fields]
        if self.table is not None:
            said.append("; ".join(f"{one.name}: {one.help}" for one in self.table) + ".")
        return " ".join(filter(None, said))

    @property
    def flag(self) -> str | None:
        """The command line's spelling; None for a group's setting that has none."""
        if "." in self.name:
            return self.alias and "--" + self.alias.replace("_", "-")
        return "--" + self.name.replace("_", "-")


def options_of(config_class: type) -> tuple[Option, ...]:
    """Return the options of a config dataclass, in the order of its fields, inherited ones last."""
    if config_class not in _known:
        _known[config_class] = tuple(_options(config_class, MISSING))
    return _known[config_class]


_known: dict[type, tuple[Option, ...]] = {}


def _is_group(hint: object) -> TypeGuard[type]:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def groups_of(config_class: type, prefix: str = "") -> dict[str, type]:
    """Return the dataclass of each group, by its dotted name, outer ones first."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(config_class).items():
        if _is_group(hint):
            found |= {prefix + name: hint, **groups_of(hint, f"{prefix}{name}.")}
    return found


def _options(
    config_class: type, defaults: object, *, is_execution: bool = False, above: tuple[tuple[type, str], ...] = ()
) -> Iterator[Option]:
    """Yield a dataclass' options; `defaults` is the instance that holds them, where it is a group of those above."""
    hints = typing.get_type_hints(config_class)
    own = vars(config_class).get("__annotations__", {})
    for one in sorted(dataclasses.fields(config_class), key=lambda one: one.name not in own):
        default = one.default if defaults is MISSING else getattr(defaults, one.name)
        fields = (*above, (config_class, one.name))
        marked = is_execution or bool(one.metadata.get("execution"))
        hint = hints[one.name]
        if _is_group(hint):
            yield from _options(hint, default, is_execution=marked, above=fields)
        else:
            yield _option(one, hint, default, fields, is_execution=marked)


@functools.cache
def _docs_of(config_class: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, inherited ones too, by name."""
    bases = filter(dataclasses.is_dataclass, reversed(config_class.__mro__))
    return {name: text for base in bases for name, text in _own_docs(base).items()}


def _own_docs(config_class: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body
    assert isinstance(body, ast.ClassDef)
    return {
        statement.target.id: inspect.cleandoc(str(following.value.value))
        for statement, following in itertools.pairwise(body.body)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
    }


def _option(
    one: dataclasses.Field[object],
    hint: Any,
    default: object,
    fields: tuple[tuple[type, str], ...],
    *,
    is_execution: bool,
) -> Option:
    is_optional = typing.get_origin(hint) in (types.UnionType, typing.Union)  # `Literal[...] | None` is the latter
    if is_optional:
        (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
    is_repeatable = typing.get_origin(hint) is tuple
    if is_repeatable:
        hint = typing.get_args(hint)[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    return Option(
        name=".".join(name for _, name in fields),
        kind=str if choices else hint,
        default=default,
        literals=choices,
        is_optional=is_optional,
        is_repeatable=is_repeatable,
        is_execution=is_execution,
        is_argument=bool(one.metadata.get("argument")),
        is_secret=bool(one.metadata.get("secret")),
        is_added=bool(one.metadata.get("added")),
        table=one.metadata.get("table"),
        alias=one.metadata.get("flag"),
        fields=fields,
    )
