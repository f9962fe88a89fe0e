"""The methods of neuron profiles, and what a YAML file may say of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actlab.ground.errors import ConfigError, did_you_mean

METHODS: dict[str, dict[str, int]] = {
    "mean": {},
    "std": {},
    "max": {},
    "min": {},
    "entropy": {"bins": 20},
    "pca": {"components": 1},
    "svd": {"components": 1},
    "clustering": {"n_clusters": 2},
    "fourier": {"n_frequencies": 1},
    "pattern_wise": {},
    "sparsity": {},
}
"""Every method with its parameters and their defaults; `signatures.METHODS` holds the functions."""

LARGEST = {"bins": 1000, "components": 1000, "n_clusters": 20, "n_frequencies": 1000}
"""More is a slip of the finger; the exact clustering takes time in proportion to clusters × rows²."""

_KEY = "signature.neuron_profile_methods"


@dataclass(frozen=True)
class ProfileMethod:
    """A method with a value for each of its parameters."""

    name: str
    settings: Mapping[str, int]


def check_methods(spec: object) -> tuple[ProfileMethod, ...]:
    """Turn a list of names, or a mapping from names to parameters, into methods, in the order given.

    In a mapping null, true and {} mean the defaults, false leaves the method out.

    >>> check_methods({"mean": None, "std": False, "entropy": {"bins": 8}})
    (ProfileMethod(name='mean', settings={}), ProfileMethod(name='entropy', settings={'bins': 8}))

    Raises:
        ConfigError: A method or a parameter is not known, given twice or out of range, or no method is left.
    """
    if isinstance(spec, list | tuple):
        for number, name in enumerate(spec):
            if name in spec[:number]:
                raise ConfigError(f"{_KEY} names {name!r} twice", hint="name each method once")
        given: list[tuple[Any, Any]] = [(name, None) for name in spec]
    elif isinstance(spec, Mapping):
        given = list(spec.items())
    else:
        raise ConfigError(
            f"{_KEY} is {spec!r}, neither a list nor a mapping",
            hint="give a list such as [mean, std], or a mapping such as {mean: {}, entropy: {bins: 20}}",
        )
    methods = tuple(_method(name, parameters) for name, parameters in given)
    chosen = tuple(method for method, (_, parameters) in zip(methods, given, strict=True) if parameters is not False)
    if not chosen:
        raise ConfigError(f"{_KEY} leaves no method", hint=f"choose from {', '.join(METHODS)}")
    return chosen


def _method(name: object, parameters: object) -> ProfileMethod:
    if not isinstance(name, str) or name not in METHODS:
        hint = did_you_mean(str(name), METHODS, otherwise=f"choose from {', '.join(METHODS)}")
        raise ConfigError(f"{_KEY} names {name!r}, which is no method", hint=hint)
    known = METHODS[name]
    if parameters is None or isinstance(parameters, bool):
        return ProfileMethod(name, dict(known))
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{_KEY}.{name} is {parameters!r}, not a mapping", hint=_example(name))
    for key, value in parameters.items():
        if key not in known:
            hint = did_you_mean(str(key), known, otherwise=_example(name))
            raise ConfigError(f"{_KEY}.{name} has no parameter {key!r}", hint=hint)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST[key]:
            raise ConfigError(
                f"{_KEY}.{name}.{key} is {value!r}",
                hint=f"give a whole number from 1 to {LARGEST[key]}; {known[key]} is usual",
            )
    return ProfileMethod(name, {**known, **parameters})


def _example(name: str) -> str:
    usual = ", ".join(f"{key}: {value}" for key, value in METHODS[name].items())
    return f"write {name}: {{{usual}}}" + ("" if usual else ", it has no parameters")
