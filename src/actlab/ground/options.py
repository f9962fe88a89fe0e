"""One definition of a setting: a dataclass field is the flag, the help, the YAML key, the Python argument.

A field is *identity* (it changes the data, so it is part of the fingerprint) unless it is made with
`execution`, which marks what only says how or where the work is done.
"""

import ast
import dataclasses
import functools
import inspect
import os
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from actlab.ground.errors import ConfigError, did_you_mean

Config = TypeVar("Config")
Result = TypeVar("Result")


def execution(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that does not change the data: output, part, device, quiet, …; without default it is required."""
    return field(default=default, metadata={"execution": True})


def argument() -> Any:
    """Declare a field that the command line takes by position, without a flag."""
    return field(metadata={"execution": True, "argument": True})


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """The words that every command shares which writes something."""

    overwrite: bool = execution(False)
    """Replace a dataset made with other settings; the old one stays until the new one is sealed."""
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
    kind: type
    """str, int, float or bool."""
    default: Any
    """`dataclasses.MISSING` where a value must be given."""
    help: str
    choices: tuple[str, ...]
    is_optional: bool
    is_repeatable: bool
    is_execution: bool
    is_argument: bool

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")


def options_of(config_class: type) -> tuple[Option, ...]:
    """Return the options of a config dataclass, in the order of its fields, inherited ones last."""
    hints = typing.get_type_hints(config_class)
    helps: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base):
            helps |= _field_docs(base)
    own = vars(config_class).get("__annotations__", {})
    fields = sorted(dataclasses.fields(config_class), key=lambda one: one.name not in own)
    return tuple(_option(one, hints[one.name], helps.get(one.name, "")) for one in fields)


def identity_of(config: Any) -> dict[str, Any]:
    """Return the fields of a config that change the data, by name."""
    return {option.name: getattr(config, option.name) for option in options_of(type(config)) if not option.is_execution}


def from_settings(config_class: type[Config], settings: Mapping[str, Any]) -> Config:
    """Make a config from names and values, as the Python API and a YAML file give them.

    Paths may stand for strings, and one value for a repeatable option's tuple.

    Raises:
        ConfigError: An unknown name, a missing one, or a value of the wrong type.
    """
    options = {option.name: option for option in options_of(config_class)}
    values = {}
    for key, value in settings.items():
        name = str(key).replace("-", "_")
        if name not in options:
            raise ConfigError(
                f"there is no setting {key!r}",
                hint=did_you_mean(name, options, otherwise="known: " + ", ".join(options)),
            )
        values[name] = _coerce(options[name], value)
    for option in options.values():
        if option.default is dataclasses.MISSING and option.name not in values:
            raise ConfigError(f"{option.name} must be given", hint="see --help")
    return config_class(**values)


def takes(config_class: type) -> Callable[[Callable[[Any], Result]], Callable[..., Result]]:
    """Give a function of one config the config's fields as keyword arguments."""

    def decorate(run: Callable[[Any], Result]) -> Callable[..., Result]:
        @functools.wraps(run)
        def with_settings(config: Any = None, /, **settings: Any) -> Result:
            if isinstance(config, config_class) and not settings:
                return run(config)
            if config is not None:
                raise TypeError(f"give either one {config_class.__name__} or keyword arguments")
            return run(from_settings(config_class, settings))

        parameters = inspect.signature(config_class).parameters.values()
        returns = inspect.signature(run).return_annotation
        with_settings.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            list(parameters), return_annotation=returns
        )
        return with_settings

    return decorate


def command(name: str, config_class: type) -> Callable[[Callable[[Any], None]], click.Command]:
    """Make a click command whose options are the config's fields, and whose body gets the config.

    Settings come from the defaults, then the file of `--config-path`, then the flags.
    """

    def decorate(body: Callable[[Any], None]) -> click.Command:
        def callback(config_path: str | None, **flags: Any) -> None:
            settings = read_yaml(config_path) if config_path is not None else {}
            settings |= {key: value for key, value in flags.items() if value not in (None, ())}
            body(from_settings(config_class, settings))

        params: list[click.Parameter] = [_click_parameter(option) for option in options_of(config_class)]
        params.append(
            click.Option(["--config-path"], metavar="FILE.yaml", help="Settings from a YAML file; flags win over it.")
        )
        help_text = inspect.getdoc(body) or ""
        return click.Command(
            name, callback=callback, params=params, help=help_text, short_help=help_text.partition(".")[0]
        )

    return decorate


def read_yaml(path: str) -> dict[str, Any]:
    """Read a mapping of settings.

    Raises:
        ConfigError: The file is not there, is not YAML, or is no mapping.
    """
    import yaml

    hint = "write one setting a line, as in  batch_size: 16"
    try:
        text = Path(path).read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check --config-path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {reason}", hint=hint) from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds a {type(settings).__name__}, not settings", hint=hint)
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    keys = [str(node.value).replace("-", "_") for node, _ in root.value]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ConfigError(f"{path} sets {twice[0]} twice", hint="keep one of them")
    return {str(key).replace("-", "_"): value for key, value in settings.items()}


def _field_docs(config_class: type) -> dict[str, str]:
    """Return the string under each field, by name."""
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


def _option(one: dataclasses.Field[Any], hint: Any, help_text: str) -> Option:
    is_optional = typing.get_origin(hint) in (types.UnionType, typing.Union)  # `Literal[...] | None` is the latter
    if is_optional:
        (hint,) = (member for member in typing.get_args(hint) if member is not type(None))
    is_repeatable = typing.get_origin(hint) is tuple
    if is_repeatable:
        hint = typing.get_args(hint)[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    return Option(
        name=one.name,
        kind=str if choices else hint,
        default=one.default,
        help=help_text,
        choices=choices,
        is_optional=is_optional,
        is_repeatable=is_repeatable,
        is_execution=bool(one.metadata.get("execution")),
        is_argument=bool(one.metadata.get("argument")),
    )


def _click_parameter(option: Option) -> click.Parameter:
    kind: Any = click.Choice(option.choices) if option.choices else option.kind
    metavar = {str: "TEXT", int: "N", float: "X"}.get(option.kind)
    if option.is_argument:
        return click.Argument(
            [option.name],
            type=kind,
            required=not option.is_repeatable,
            nargs=-1 if option.is_repeatable else 1,
        )
    help_text = option.help + _shown_default(option)
    if option.kind is bool:
        flags = f"{option.flag}/--no-{option.flag[2:]}"
        return click.Option([flags], default=None, help=help_text)
    return click.Option(
        [option.flag],
        type=kind,
        multiple=option.is_repeatable,
        default=None,
        metavar=None if option.choices else metavar,
        help=help_text,
    )


def _shown_default(option: Option) -> str:
    if option.default in (None, (), False):
        return ""
    if option.default is dataclasses.MISSING:
        return "  [required]"
    value = option.default
    if option.is_repeatable:
        value = ", ".join(map(str, value))
    return f"  [default: {'yes' if value is True else value}]"


def _coerce(option: Option, value: Any) -> Any:
    if option.is_repeatable:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce_one(option, one) for one in several)
    if isinstance(value, list | tuple) and option.kind is str and value:
        value = ",".join(map(str, value))  # layers: [0, 5, -1] and splits: [EM, Neutral]
    return _coerce_one(option, value)


def _coerce_one(option: Option, value: Any) -> Any:
    if value is None and option.is_optional:
        return None
    if isinstance(value, os.PathLike) and option.kind is str:
        value = os.fspath(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if option.kind is float:
            value = float(value)
        elif option.kind is str:  # YAML reads `layers: 3` and `position: -1` as numbers
            value = str(value)
    if not isinstance(value, option.kind) or (isinstance(value, bool) and option.kind is not bool):
        raise ConfigError(f"{option.name} takes {_A[option.kind]}, not {value!r}", hint=option.help or "see --help")
    if isinstance(value, str) and (not value or "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        what = "is empty" if not value else "holds a character that no path or name can have"
        raise ConfigError(f"{option.name} {what}", hint="leave the setting away for the default, if it has one")
    if option.choices and value not in option.choices:
        raise ConfigError(
            f"{option.name} cannot be {value!r}",
            hint=did_you_mean(str(value), option.choices, otherwise="use one of " + ", ".join(option.choices)),
        )
    return value


_A = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
