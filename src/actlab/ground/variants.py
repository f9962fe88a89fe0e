"""Variants as objects: tables of what users choose by name, to which a module of their own may add.

A variant is one frozen value with its name, help and hint. Choices, `--help`, errors and the rows of the formats page
are made from its table. A plugin is a module that adds variants when it is imported; nobody finds one by himself, it is
named by `--plugins`. What a plugin added is used only where it is named, and its code is hashed into the identity then.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from actlab.ground.errors import ConfigError, did_you_mean
from actlab.ground.plugins import Plugin, at_work


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


class Table(Generic[V]):
    """The variants of one kind, in the order of their definition."""

    def __init__(self, what: str, *variants: V, is_open: bool = True) -> None:
        self.what = what
        """What one of them is, as "position"."""
        self._is_open = is_open
        """Whether plugins may add to it."""
        self._variants: dict[str, V] = {}
        self._plugins: dict[str, Plugin] = {}
        for one in variants:
            self.add(one)
        self._plugins.clear()  # a plugin may be the first to import the table's own module

    def add(self, variant: V) -> V:
        """Add a variant, and return it.

        Raises:
            ConfigError: It lacks a name, a help or a hint, has the name of another, or is added by a module that nobody
                named as a plugin, whose code no identity would know.
        """
        by = str(sys._getframe(1).f_globals["__name__"])
        self._refuse_author(variant, by)
        if not re.fullmatch(r"-?\w[\w. +-]*", variant.name):
            raise ConfigError(f"a {self.what} is called {variant.name!r}", hint=_SAY.format("name"))
        for field in dataclasses.fields(variant):
            if field.default == "" and not getattr(variant, field.name):
                raise ConfigError(f"the {self.what} {variant.name!r} has no {field.name}", hint=_SAY.format(field.name))
        if any(one.answers_to(variant.name) for one in self):
            raise ConfigError(f"there is a {self.what} {variant.name!r} already", hint="choose another name")
        self._variants[variant.name] = variant
        if at_work and by != __name__:
            self._plugins[variant.name] = at_work[-1].plugin
            at_work[-1].undo.append(functools.partial(self._take_out, variant.name))
        return variant

    def _refuse_author(self, variant: V, by: str) -> None:
        if by.startswith("actlab."):
            return
        if not self._is_open:
            raise ConfigError(f"a plugin cannot add a {self.what}", hint="docs/plugins.md says what it can add")
        if not at_work or by.split(".")[0] != at_work[-1].plugin.name:
            raise ConfigError(
                f"the {self.what} {variant.name!r} is added outside a plugin, by {by}",
                hint="put it into a module of its own and name that: --plugins, or plugins=[…] in Python",
            )

    def _take_out(self, name: str) -> None:
        del self._variants[name], self._plugins[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of plugins last."""
        return tuple(one.name for one in self)

    @property
    def shipped(self) -> tuple[V, ...]:
        """The variants that come with actlab: what "all" means, and what may be chosen without being named."""
        return tuple(one for one in self._variants.values() if one.name not in self._plugins)

    def __iter__(self) -> Iterator[V]:
        # whatever order plugins were loaded in, results are the same
        return iter([*self.shipped, *(self._variants[name] for name in sorted(self._plugins))])

    def __getitem__(self, name: str) -> V:
        """Return a variant by its name.

        Raises:
            ConfigError: There is none.
        """
        found = next((one for one in self if one.answers_to(name)), None)
        if found is None:
            near = [one for one in self.names if one != name]  # its own where a number stands in it, as -k
            hint = did_you_mean(name, near, otherwise="use one of " + ", ".join(self.names))
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
