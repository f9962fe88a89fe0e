"""What the fields of a config dataclass say."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

MISSING = dataclasses.MISSING


def setting(default: Any = MISSING, *, flag: str) -> Any:
    """Declare a field of a group that has a flag of its own, as `flag="seed"` gives --seed."""
    return field(default=default, metadata={"flag": flag})


def secret() -> Any:
    """Declare a field whose value no message may show."""
    return field(default=None, metadata={"execution": True, "secret": True})


def execution(default: Any = MISSING, *, flag: str | None = None) -> Any:
    """Declare a field that does not change the data: output, part, device, quiet, …; without default it is required."""
    return field(default=default, metadata={"execution": True, "flag": flag})


def added(default: Any) -> Any:
    """Declare a setting that datasets from before it lack: at its default it is no part of the identity."""
    return field(default=default, metadata={"added": True})


def argument() -> Any:
    """Declare a field that the command line takes by position, without a flag."""
    return field(metadata={"execution": True, "argument": True})


def group(default: Any, *, is_execution: bool = False) -> Any:
    """Declare a group of settings by its default, an instance of a frozen dataclass."""
    return field(default=default, metadata={"execution": is_execution})


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """The words that every command shares which writes something."""

    overwrite: bool = execution(False)
    """Replace a dataset made with other settings, or a damaged one; the old one stays until the new one is sealed."""
    dry_run: bool = execution(False)
    """Print the plan (units, records, tokens, bytes, memory) and stop."""
    quiet: bool = execution(False)
    """Show no bar and no log, only warnings and errors."""
    json: bool = execution(False)
    """Print results on stdout as JSON."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(CommonOptions):
    """The words that every command shares whose work is cut into units."""

    part: str | None = execution(None)
    """Do a share of the units, as "2/3": one task of a Slurm array. The last to finish seals."""


@dataclass(frozen=True)
class Option:
    """A field of a config as every reader of settings sees it."""

    name: str
    """`limit`, or `model.num_layers.min` in a group."""
    kind: type
    """str, int, float or bool; `object` is taken as it stands."""
    default: Any
    """`dataclasses.MISSING` where a value must be given."""
    choices: tuple[str, ...]
    is_optional: bool
    is_repeatable: bool
    is_execution: bool
    is_argument: bool
    is_secret: bool = False
    is_added: bool = False
    alias: str | None = None
    """The short name of a group's setting that has a flag of its own."""
    fields: tuple[tuple[type, str], ...] = ()
    """The dataclass and the name of each field on the way to it: its groups', then its own."""

    @property
    def help(self) -> str:
        """What the sources say under the fields: read when it is asked for."""
        return " ".join(filter(None, (_docs_of(owner).get(name, "") for owner, name in self.fields)))

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


def groups_of(config_class: type, prefix: str = "") -> dict[str, type]:
    """Return the dataclass of each group, by its dotted name, outer ones first."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(config_class).items():
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found |= {prefix + name: hint, **groups_of(hint, f"{prefix}{name}.")}
    return found


def _options(
    config_class: type, defaults: Any, *, is_execution: bool = False, above: tuple[tuple[type, str], ...] = ()
) -> Iterator[Option]:
    """Yield a dataclass' options; `defaults` is the instance that holds them, where it is a group of those above."""
    hints = typing.get_type_hints(config_class)
    own = vars(config_class).get("__annotations__", {})
    for one in sorted(dataclasses.fields(config_class), key=lambda one: one.name not in own):
        default = one.default if defaults is MISSING else getattr(defaults, one.name)
        fields = (*above, (config_class, one.name))
        marked = is_execution or bool(one.metadata.get("execution"))
        hint = hints[one.name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from _options(hint, default, is_execution=marked, above=fields)
        else:
            yield _option(one, hint, default, fields, is_execution=marked)


@functools.cache
def _docs_of(config_class: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, inherited ones too, by name."""
    docs: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base):
            docs |= _own_docs(base)
    return docs


def _own_docs(config_class: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            docs[statement.target.id] = inspect.cleandoc(str(following.value.value))
    return docs


def _option(
    one: dataclasses.Field[Any], hint: Any, default: Any, fields: tuple[tuple[type, str], ...], *, is_execution: bool
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
        choices=choices,
        is_optional=is_optional,
        is_repeatable=is_repeatable,
        is_execution=is_execution,
        is_argument=bool(one.metadata.get("argument")),
        is_secret=bool(one.metadata.get("secret")),
        is_added=bool(one.metadata.get("added")),
        alias=one.metadata.get("flag"),
        fields=fields,
    )
