"""Variants as objects: tables of what users choose by name, to which a module of their own may add.

A variant is one frozen value with its name, help and hint. Choices, `--help`, errors and the rows of the formats page
are made from its table. A plugin is a module that adds variants when it is imported; nobody finds one by himself, it is
named by `--plugins`. What a plugin added is used only where it is named, and its code is hashed into the identity then.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

from actlab.ground.errors import ConfigError, did_you_mean, foreign_errors


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What every variant says of itself."""

    name: str = ""
    """As users write it."""
    help: str = ""
    """A clause for --help and the formats page."""
    hint: str = ""
    """What helps where nothing comes of it."""

    def answers_to(self, name: str) -> bool:
        """Whether a name as a user writes it means this variant; a name may have a number in it."""
        return name == self.name


V = TypeVar("V", bound=Variant)


class Plugin(NamedTuple):
    """A module that adds variants."""

    name: str
    sha256: str
    """Of its source."""


_loaded: dict[str, Plugin] = {}
"""By the name that the user gave."""
_at_work: list[Plugin] = []
"""The plugins whose import is under way."""


class Table(Generic[V]):
    """The variants of one kind, in the order of their definition."""

    def __init__(self, what: str, *variants: V) -> None:
        self.what = what
        """What one of them is, as "position"."""
        self._variants: dict[str, V] = {}
        self._plugins: dict[str, Plugin] = {}
        for one in variants:
            self.add(one)
        self._plugins.clear()  # a plugin may be the first to import the table's own module

    def add(self, variant: V) -> V:
        """Add a variant, and return it.

        Raises:
            ConfigError: It lacks a name, a help or a hint, or has the name of another.
        """
        if not re.fullmatch(r"-?\w[\w. +-]*", variant.name):
            raise ConfigError(f"a {self.what} is called {variant.name!r}", hint=_SAY.format("name"))
        for field in dataclasses.fields(variant):
            if field.default == "" and not getattr(variant, field.name):
                raise ConfigError(f"the {self.what} {variant.name!r} has no {field.name}", hint=_SAY.format(field.name))
        if variant.name in self._variants:
            raise ConfigError(f"there is a {self.what} {variant.name!r} already", hint="choose another name")
        self._variants[variant.name] = variant
        if _at_work:
            self._plugins[variant.name] = _at_work[-1]
        return variant

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of plugins last."""
        return tuple(self._variants)

    @property
    def shipped(self) -> tuple[V, ...]:
        """The variants that come with actlab: what "all" means, and what may be chosen without being named."""
        return tuple(one for one in self._variants.values() if one.name not in self._plugins)

    def __iter__(self) -> Iterator[V]:
        return iter(tuple(self._variants.values()))

    def __getitem__(self, name: str) -> V:
        """Return a variant by its name.

        Raises:
            ConfigError: There is none.
        """
        found = next((one for one in self if one.answers_to(name)), None)
        if found is None:
            hint = did_you_mean(name, self.names, otherwise="use one of " + ", ".join(self.names))
            raise ConfigError(f"{self.what} {name!r} is not known", hint=hint)
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Return the formats page's rows: name and help of what comes with actlab."""
        return [(one.name, one.help) for one in self.shipped]

    def plugins_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the plugins behind some of the variants, by name, with their hashes: for a dataset's identity."""
        used = {self._plugins[one] for one in (self[name].name for name in names) if one in self._plugins}
        return {plugin.name: plugin.sha256 for plugin in sorted(used)}


_SAY = "give it a {}, one line of text"


def plugins_identity(*used: object) -> dict[str, object]:
    """Return what an identity says of the plugins that were used, some as it may have them already; nothing of none."""
    together = dict(sorted(item for one in used if isinstance(one, dict) for item in one.items()))
    return {"plugins": together} if together else {}


def load_plugins(names: Iterable[str]) -> None:
    """Import the modules that a user named, each once in a process; a name, or the path of a .py file.

    A name is looked for where Python looks, then in the current folder.

    Raises:
        ConfigError: There is none, or it fails when it is imported.
    """
    for name in names:
        if name in _loaded:
            continue
        spec = _find(name)
        plugin = Plugin(spec.name, _sha256_of(Path(str(spec.origin))))
        module = importlib.util.module_from_spec(spec)
        _at_work.append(plugin)
        try:
            with foreign_errors(f"the plugin {name} fails", hint="it is your own module: correct it", kind=ConfigError):
                _run(spec, module)
        finally:
            _at_work.pop()
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


def _run(spec: "importlib.machinery.ModuleSpec", module: ModuleType) -> None:
    assert spec.loader is not None
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _find(name: str) -> "importlib.machinery.ModuleSpec":
    path = Path(name).expanduser()
    is_file = name.endswith(".py")
    module_name = path.stem if is_file else name
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError(f"--plugins {name!r} names no module", hint="give a module's name, or the path of a .py file")
    if is_file:
        spec = importlib.util.spec_from_file_location(module_name, path) if path.is_file() else None
    else:
        with foreign_errors(f"the plugin {name} is not found", hint=_WHERE, kind=ConfigError):
            spec = importlib.util.find_spec(name)
        here = Path(*name.split(".")).with_suffix(".py")
        if spec is None and here.is_file():
            spec = importlib.util.spec_from_file_location(module_name, here)
    if spec is None or spec.loader is None or not spec.has_location:
        raise ConfigError(f"there is no plugin {name}", hint=_WHERE)
    return spec


_WHERE = "name a module that Python finds or that lies here, or the path of a .py file"


def _sha256_of(origin: Path) -> str:
    """Hash a module's source; of a package all its Python files, with their names."""
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            digest.update(file.relative_to(origin.parent).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
