"""From a config dataclass to a click command."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actlab.ground.errors import ConfigError
from actlab.ground.options.fields import MISSING, Option, groups_of, options_of
from actlab.ground.options.settings import Config, by_option, from_settings, parse_yaml, read_yaml

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from actlab.ground.variants import Table, Variant

    _Completes = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def command(config_class: type[Config]) -> Callable[[Callable[[Config], None]], click.Command]:
    """Make a click command whose options are the config's fields, and whose body gets the config.

    Settings come from the defaults, then the file of `--config-path`, then `--set`, then the flags.
    """

    def decorate(body: Callable[[Config], None]) -> click.Command:
        def callback(config_path: str | None, set_: tuple[str, ...] = (), **flags: object) -> None:
            settings = by_option(config_class, read_yaml(config_path)) if config_path is not None else {}
            assigned = by_option(config_class, _assigned(set_))
            given = {key.replace("__", "."): value for key, value in flags.items() if value not in (None, ())}
            if both := sorted(assigned.keys() & given.keys()):
                raise ConfigError(f"{both[0]} is given by --set and by its flag", hint="keep one of them")
            body(from_settings(config_class, settings | assigned | given))

        params = [_click_parameter(option) for option in options_of(config_class) if option.flag]
        if groups_of(config_class):
            params.append(
                click.Option(
                    ["--set", "set_"],
                    multiple=True,
                    metavar="KEY.SUB=VALUE",
                    help="One setting of the file, by its dotted name; may be given several times.",
                )
            )
        params.append(
            click.Option(
                ["--config-path"],
                metavar="FILE.yaml",
                shell_complete=_paths,
                help="Settings from a YAML file; flags win over it.",
            )
        )
        return click.Command(None, callback=callback, params=params, help=inspect.getdoc(body))

    return decorate


def _assigned(assignments: tuple[str, ...]) -> dict[str, object]:
    """Read `key.sub=value` pairs, the values as YAML.

    Raises:
        ConfigError: Not a pair, or a key twice.
    """
    settings: dict[str, object] = {}
    for one in assignments:
        key, equals, value = one.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {key.partition(':')[0]!r} is no setting", hint="write --set key.sub=value")
        if key.strip() in settings:
            raise ConfigError(f"--set gives {key.strip()} twice", hint="keep one of them")
        settings[key.strip()] = parse_yaml(value, where=f"--set {key.strip()}")
    return settings


def _click_parameter(option: Option) -> click.Parameter:
    kind: Any = click.Choice(option.literals) if option.literals else option.kind
    kind = str if option.kind is Path else kind
    metavar = {str: "TEXT", Path: "PATH", int: "N", float: "X"}.get(option.kind)
    complete: _Completes | None = _paths if kind is str and not option.choices else None
    if option.table is not None:
        metavar, complete = f"[{'|'.join(option.choices)}]", _names_in(option.table)
    if option.is_argument:
        return click.Argument(
            [option.name],
            type=kind,
            required=not option.is_repeatable,
            nargs=-1 if option.is_repeatable else 1,
            shell_complete=complete,
        )
    assert option.flag is not None
    name = option.name.replace(".", "__")
    if option.kind is bool:
        return _Flag([f"{option.flag}/--no-{option.flag[2:]}", name], option, default=None)
    return _Flag(
        [option.flag, name],
        option,
        type=kind,
        multiple=option.is_repeatable,
        default=None,
        metavar=None if option.literals else metavar,
        shell_complete=complete,
    )


class _Flag(click.Option):
    """A flag of an option, whose help is read when it is shown."""

    def __init__(self, names: list[str], option: Option, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.option = option

    @property
    def help(self) -> str | None:
        """What the config's source says, and the default."""
        return self.option.help + _shown_default(self.option)

    @help.setter
    def help(self, _given: str | None) -> None:
        """Pass over what click sets."""


def _names_in(table: "Table[Variant]") -> "_Completes":
    from click.shell_completion import CompletionItem

    return lambda _context, _parameter, begun: [CompletionItem(name) for name in table.names if name.startswith(begun)]


def _paths(_context: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Have the shell complete any text as a path, as it does without being told about actlab."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _shown_default(option: Option) -> str:
    if option.default in (None, (), False):
        return ""
    if option.default is MISSING:
        return "  [required]"
    value = ", ".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
    return f"  [default: {'yes' if value is True else value}]"
