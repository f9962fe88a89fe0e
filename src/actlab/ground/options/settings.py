"""From names and values to a config, and back."""

import contextlib
import functools
import inspect
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from actlab.ground.errors import ConfigError, did_you_mean
from actlab.ground.limits import YAML_BYTES, read_text_at_most, refuse_large_yaml
from actlab.ground.options.fields import MISSING, Option, as_path, groups_of, options_of

Config = TypeVar("Config")
Result = TypeVar("Result")

_YAML_HINT = "write one setting a line, as in  batch_size: 16"


def identity_of(config: object) -> dict[str, object]:
    """Return the settings that change the data, by (dotted) name; those added later only where they do."""
    identity: dict[str, object] = {}
    plugins: dict[str, str] = {}
    for option in options_of(type(config)):
        value = _value(config, option.name)
        if option.table is not None and value is not None:
            plugins |= option.table.plugins_of(map(str, value if isinstance(value, tuple) else (value,)))
        if not option.is_execution and not (option.is_added and value == option.default):
            identity[option.name] = value
    return identity | ({"plugins": dict(sorted(plugins.items()))} if plugins else {})


def to_settings(config: object) -> dict[str, object]:
    """Return a config as a YAML file would hold it: groups are mappings, tuples lists."""
    settings: dict[str, Any] = {}
    for option in options_of(type(config)):
        *path, name = option.name.split(".")
        place = settings
        for key in path:
            place = place.setdefault(key, {})
        place[name] = _plain(_value(config, option.name))
    return settings


def from_settings(config_class: type[Config], settings: Mapping[str, object]) -> Config:
    """Make a config from names and values, as the Python API and a YAML file give them.

    Groups are mappings, or dotted names. Paths may stand for strings, and one value for a repeatable option's tuple.

    Raises:
        ConfigError: An unknown name, a missing one, or a value of the wrong type.
    """
    options = {option.name: option for option in options_of(config_class)}
    given = by_option(config_class, settings)
    if given.get("plugins"):
        from actlab.ground.plugins import load_plugins

        load_plugins(map(str, _several(given["plugins"])))
    values = {name: _coerce(options[name], value) for name, value in given.items()}
    for option in options.values():
        if option.default is MISSING and option.name not in values:
            raise ConfigError(f"{option.name} must be given", hint="see --help")
    values = {name: option.default for name, option in options.items() if "." in name} | values
    for path, group_class in reversed(groups_of(config_class).items()):  # inner ones first
        own = [name for name in values if name.rpartition(".")[0] == path]
        values[path] = group_class(**{name.rpartition(".")[2]: values.pop(name) for name in own})
    return config_class(**values)


def by_option(config_class: type, settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings under their options' full names: groups taken apart, short names spelt out.

    Raises:
        ConfigError: An unknown name, one given twice, or a group that is no mapping.
    """
    options = {option.name: option for option in options_of(config_class)}
    full_names = {option.alias: option.name for option in options.values() if option.alias}
    groups = groups_of(config_class)
    found: dict[str, object] = {}

    def add(key: str, value: object) -> None:
        name = full_names.get(key, key)
        if name in groups:
            inside = vars(value) if isinstance(value, groups[name]) else value
            if not isinstance(inside, Mapping):
                raise ConfigError(f"{name} is a group of settings", hint=_known(name, options))
            for inner, one in inside.items():
                add(f"{name}.{_key(inner)}", one)
        elif name not in options:
            parent = name.rpartition(".")[0]
            otherwise = _known(parent if parent in groups else "", options)
            raise ConfigError(
                f"there is no setting {key!r}", hint=did_you_mean(name, [*options, *groups], otherwise=otherwise)
            )
        elif name in found:
            raise ConfigError(f"{name} is set twice", hint="keep one of them")
        else:
            found[name] = value

    for key, value in settings.items():
        add(_key(key), value)
    return found


def takes(config_class: type[Config]) -> Callable[[Callable[[Config], Result]], Callable[..., Result]]:
    """Give a function of one config the config's fields as keyword arguments, and `config_path` for a YAML file."""

    def decorate(run: Callable[[Config], Result]) -> Callable[..., Result]:
        @functools.wraps(run)
        def with_settings(*given: object, **settings: object) -> Result:
            return run(_as_config(config_class, given, settings))

        _config_classes[with_settings] = config_class
        with_settings.__signature__ = inspect.signature(config_class).replace(  # type: ignore[attr-defined]
            return_annotation=inspect.signature(run).return_annotation
        )
        return with_settings

    return decorate


_config_classes: dict[Callable[..., object], type] = {}
"""Of functions that take settings."""


def config_of(function: Callable[..., object], *given: object, **settings: object) -> Any:
    """Return the config that a function of settings makes of what it is given.

    Raises:
        TypeError: It is no such function.
        ConfigError: A setting is wrong.
    """
    if function not in _config_classes:
        raise TypeError(f"{function!r} is no function of a command's settings")
    return _as_config(_config_classes[function], given, settings)


def _as_config(config_class: type[Config], given: Sequence[object], settings: dict[str, object]) -> Config:
    if given and given[0] is not None:
        config, *more = given
        if not isinstance(config, config_class) or more or settings:
            raise TypeError(f"give either one {config_class.__name__} or keyword arguments")
        return config
    path = settings.pop("config_path", None)
    read = by_option(config_class, read_yaml(Path(str(path)))) if path is not None else {}
    return from_settings(config_class, read | by_option(config_class, settings))


def read_yaml(path: str | os.PathLike[str]) -> dict[str, object]:
    """Read a mapping of settings.

    Raises:
        ConfigError: The file is not there, is not YAML, is no mapping, or has a key twice.
    """
    try:
        text = read_text_at_most(Path(os.path.expanduser(path)), YAML_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check --config-path") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}", hint=_YAML_HINT) from error
    settings = parse_yaml(text, where=str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds a {type(settings).__name__}, not settings", hint=_YAML_HINT)
    return {_key(key): value for key, value in settings.items()}


def parse_yaml(text: str, *, where: str) -> object:
    """Return what a YAML text holds.

    Raises:
        ConfigError: It is not YAML, is too large, or a mapping in it has a key twice.
    """
    import yaml

    rules = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same rules, read ten times faster
    try:
        refuse_large_yaml(text, rules, where, ConfigError)
        loader = rules(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_keys_set_twice(root, where)
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:  # the line itself is not shown: it may hold a token
        at = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where} is not YAML{at}: {error.problem}", hint=_YAML_HINT) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where} is not YAML: {reason}", hint=_YAML_HINT) from None


def _refuse_keys_set_twice(root: Any, where: str) -> None:
    import yaml

    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue  # an anchor that is used again
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            counts = Counter(_key(key.value) for key, _ in node.value)
            if twice := sorted(key for key, count in counts.items() if count > 1):
                raise ConfigError(f"{where} sets {twice[0]} twice", hint="keep one of them")
            nodes += [value for _, value in node.value]


def _key(key: object) -> str:
    return str(key).replace("-", "_")


def _known(group: str, options: Mapping[str, Option]) -> str:
    return "known: " + ", ".join(name for name in options if not group or name.startswith(group + "."))


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(map(_plain, value))
    return str(value) if isinstance(value, Path) else value


def _value(config: object, name: str) -> object:
    value: object = functools.reduce(getattr, name.split("."), config)
    return value


def _coerce(option: Option, value: object) -> object:
    several = _several(value)
    _refuse_no_number(option, several)
    if option.is_repeatable:
        return tuple(_coerce_one(option, one) for one in several)
    if isinstance(value, list | tuple) and option.kind is str and value and option.table is None:
        value = ",".join(map(str, value))  # layers: [0, 5, -1] and splits: [EM, Neutral]
    return _coerce_one(option, value)


def _several(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _refuse_no_number(option: Option, values: Sequence[object]) -> None:
    """Refuse what is no finite number of 64 bits, the same for every setting.

    Raises:
        ConfigError: There is one.
    """
    name = option.flag or option.name
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} {value} is no finite number", hint="give a finite number")
        if isinstance(value, int) and abs(value) >= _LARGEST:  # str(value) may be refused by Python itself
            raise ConfigError(f"{name} is too large", hint=f"give at most {_LARGEST - 1}")


def _coerce_one(option: Option, value: object) -> object:
    if option.kind is object or (value is None and option.is_optional):
        return value
    if isinstance(value, os.PathLike) and option.kind in (str, Path):
        value = os.fspath(value)
    if isinstance(value, str) and option.kind is float and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", value):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
            _refuse_no_number(option, [value])
    if isinstance(value, int) and not isinstance(value, bool):
        if option.kind is float:
            value = float(value)
        elif option.kind in (str, Path):  # YAML reads `layers: 3` and `position: -1` as numbers
            value = str(value)
    kind = str if option.kind is Path else option.kind
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        shown = "what it was given" if option.is_secret else repr(value)[:200]
        hint = f"give {_A[option.kind]}" if option.kind in (int, float) else option.help or "see --help"
        raise ConfigError(f"{option.name} takes {_A[option.kind]}, not {shown}", hint=hint)
    if isinstance(value, str) and (not value or "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        what = "is empty" if not value else "holds a character that no path or name can have"
        hint = "omit the setting for its default"
        raise ConfigError(f"{option.name} {what}", hint="give another" if option.default is MISSING else hint)
    if option.table is not None:
        option.table[str(value)]  # says what there is instead
        return value
    if option.kind is Path:
        return as_path(str(value))
    if option.choices and value not in option.choices:
        raise ConfigError(
            f"{option.name} cannot be {value!r}",
            hint=did_you_mean(str(value), option.choices, otherwise="use one of " + ", ".join(option.choices)),
        )
    return value


_LARGEST = 2**63
"""Whole numbers of more bits are none of arrays, seeds or files."""
_A = {str: "text", Path: "text", int: "a whole number", float: "a number", bool: "true or false"}
