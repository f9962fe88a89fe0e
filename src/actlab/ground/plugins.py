"""Plugins: modules of the user's own that add variants to actlab's tables when they are imported.

Nobody finds one by himself: it is named by `--plugins`, or `plugins` in Python and YAML.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

from actlab.ground.errors import ConfigError, foreign_errors


class Plugin(NamedTuple):
    """A module that adds variants."""

    name: str
    sha256: str
    """Of its source."""


_loaded: dict[str, Plugin] = {}
"""By the name that the user gave."""


class Loading(NamedTuple):
    """A plugin whose import is under way."""

    plugin: Plugin
    undo: list[Callable[[], object]]
    """Takes out of the tables what it has added, should it fail."""


at_work: list[Loading] = []
"""One at most."""


def load_plugins(names: Iterable[str]) -> None:
    """Import the modules that a user named, each once in a process; a name, or the path of a .py file.

    A name is looked for where Python looks, then in the current folder.

    Raises:
        ConfigError: There is none, it has the name of another module, fails when it is imported, or was changed since.
    """
    for name in names:
        spec = _find(name)
        plugin = Plugin(spec.name, _sha256_of(Path(str(spec.origin))))
        if name in _loaded and _loaded[name] != plugin:
            raise ConfigError(f"the plugin {name} was changed since it was loaded", hint="start Python anew")
        if plugin not in _loaded.values():
            _load(spec, plugin)
        _loaded[name] = plugin


def refuse_missing_plugins(identity: object, where: Path) -> None:
    """Refuse to go on with a dataset whose plugins are not loaded, or not as they were when it was made.

    Raises:
        ConfigError: One is not.
    """
    used = identity.get("plugins") if isinstance(identity, dict) else None
    there = {plugin.name: plugin.sha256 for plugin in _loaded.values()}
    if lacking := [name for name, sha256 in (used or {}).items() if there.get(name) != sha256]:
        raise ConfigError(
            f"{where} was made with plugins that are not loaded, or differ: {', '.join(lacking)}",
            hint="give each as it was then: --plugins " + " --plugins ".join(lacking),
        )


def _load(spec: ModuleSpec, plugin: Plugin) -> None:
    if spec.name in sys.modules:
        raise ConfigError(f"there is a module {spec.name} already", hint="give the plugin a name that is no other's")
    at_work.append(loading := Loading(plugin, []))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    try:
        with foreign_errors(
            f"the plugin {spec.name} fails", hint="it is your own module: correct it", kind=ConfigError
        ):
            # the bytes that were hashed: what Python keeps of a module may be of older ones
            exec(compile(Path(str(spec.origin)).read_bytes(), str(spec.origin), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[spec.name]
        for take_out in loading.undo:
            take_out()
        if isinstance(error, SystemExit):
            raise ConfigError(
                f"the plugin {spec.name} fails: it ends Python", hint="take sys.exit out of it"
            ) from error
        raise
    finally:
        at_work.pop()
    if not loading.undo:
        import logging

        logging.getLogger("actlab").warning("the plugin %s adds no variant", spec.name)


def _find(name: str) -> ModuleSpec:
    path = Path(name).expanduser()
    is_file = name.endswith(".py")
    module_name = path.stem if is_file else name
    if not module_name.isidentifier():
        raise ConfigError(f"--plugins {name!r} names no module", hint="give a module's name, or the path of a .py file")
    if is_file:
        spec = importlib.util.spec_from_file_location(module_name, path) if path.is_file() else None
    else:
        with foreign_errors(f"the plugin {name} is not found", hint=_WHERE, kind=ConfigError):
            spec = importlib.util.find_spec(name)
        if spec is None and (here := Path(f"{name}.py")).is_file():
            spec = importlib.util.spec_from_file_location(name, here)
    if spec is None or spec.loader is None or not spec.has_location:
        raise ConfigError(f"there is no plugin {name}", hint=_WHERE)
    return spec


_WHERE = "name a module that Python finds or that lies here, or the path of a .py file"


def _sha256_of(origin: Path) -> str:
    """Hash a module's source; of a package all its Python files, with their names; not what it imports besides."""
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            digest.update(file.relative_to(origin.parent).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
