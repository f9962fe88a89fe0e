"""The methods of neuron profiles, and what a YAML file may say of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from actlab.ground.errors import ConfigError, did_you_mean
from actlab.ground.variants import Table, Variant


@dataclass(frozen=True, kw_only=True)
class Method(Variant):
    """A way to put what a neuron does over the rows of the signature dataset into a few numbers."""

    profile: str = ""
    """Where its function of a layer's outputs, groups of rows and parameters is, as "module:function"."""
    parameters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of each parameter what is usual and the most: more is a slip of the finger, and the exact clustering takes time
    in proportion to clusters × rows²."""
    by_pattern: bool = False
    """Whether its numbers stand for the patterns of the signature dataset."""

    @property
    def usual(self) -> dict[str, int]:
        """Its parameters as they usually are."""
        return {name: usual for name, (usual, _) in self.parameters.items()}


METHODS = Table(
    "profile method",
    Method(
        name="mean",
        help="the mean",
        hint="a neuron whose mean is always 0 is dead: lower model.learning_rate",
        profile="actlab.weights.signatures:mean",
    ),
    Method(
        name="std",
        help="the population's standard deviation",
        hint="it is 0 where all rows are alike: take a larger signature dataset",
        profile="actlab.weights.signatures:std",
    ),
    Method(
        name="max",
        help="the largest value",
        hint="it says little of many rows: name mean or entropy too",
        profile="actlab.weights.signatures:largest",
    ),
    Method(
        name="min",
        help="the smallest value",
        hint="it says little of many rows: name mean or entropy too",
        profile="actlab.weights.signatures:smallest",
    ),
    Method(
        name="entropy",
        help="the entropy in nats of a histogram over the neuron's own range (`bins` 20)",
        hint="raise bins to tell more values apart",
        profile="actlab.weights.signatures:entropy",
        parameters={"bins": (20, 1000)},
    ),
    Method(
        name="pca",
        help="the neuron's loadings (component's entry × square root of the explained variance) on the layer's first "
        "`components`, each component's largest entry positive",
        hint="components that are not there are 0: ask for at most one a neuron",
        profile="actlab.weights.signatures:pca",
        parameters={"components": (1, 1000)},
    ),
    Method(
        name="svd",
        help="the same without centring (singular vector's entry × singular value / √rows)",
        hint="components that are not there are 0: ask for at most one a neuron",
        profile="actlab.weights.signatures:svd",
        parameters={"components": (1, 1000)},
    ),
    Method(
        name="clustering",
        help="the centres of the best `n_clusters`-means of the neuron's values, ascending",
        hint="a neuron with fewer values repeats the last one: lower n_clusters",
        profile="actlab.weights.signatures:clustering",
        parameters={"n_clusters": (2, 20)},
    ),
    Method(
        name="fourier",
        help="the `n_frequencies` largest magnitudes / rows of the spectrum over the rows in their order, without the "
        "mean",
        hint="frequencies that are not there are 0: ask for at most half as many as there are rows",
        profile="actlab.weights.signatures:fourier",
        parameters={"n_frequencies": (1, 1000)},
    ),
    Method(
        name="pattern_wise",
        help="the mean over each pattern's rows, patterns in the order in which they first appear, negatives as `none`",
        hint="it has no column for a pattern without rows: make the signature dataset with this config",
        profile="actlab.weights.signatures:pattern_wise",
        by_pattern=True,
    ),
    Method(
        name="sparsity",
        help="the share of values that a ReLU would silence",
        hint="it is 1 for a dead neuron: lower model.learning_rate",
        profile="actlab.weights.signatures:sparsity",
    ),
    is_open=False,
)

_KEY = "signature.neuron_profile_methods"


class ProfileMethod(NamedTuple):
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
        given: list[tuple[object, object]] = [(name, None) for name in spec]
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
        raise ConfigError(f"{_KEY} leaves no method", hint=f"choose from {', '.join(METHODS.names)}")
    return chosen


def _method(name: object, parameters: object) -> ProfileMethod:
    if not isinstance(name, str) or name not in METHODS.names:
        hint = did_you_mean(str(name), METHODS.names, otherwise=f"choose from {', '.join(METHODS.names)}")
        raise ConfigError(f"{_KEY} names {name!r}, which is no method", hint=hint)
    known = METHODS[name].parameters
    usual = METHODS[name].usual
    if parameters is None or isinstance(parameters, bool):
        return ProfileMethod(name, usual)
    written = ", ".join(f"{key}: {value}" for key, value in usual.items())
    example = f"write {name}: {{{written}}}" if usual else f"write {name}: {{}}, it has no parameters"
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{_KEY}.{name} is {parameters!r}, not a mapping", hint=example)
    for key, value in parameters.items():
        if key not in known:
            raise ConfigError(
                f"{_KEY}.{name} has no parameter {key!r}", hint=did_you_mean(str(key), known, otherwise=example)
            )
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= known[key][1]:
            raise ConfigError(
                f"{_KEY}.{name}.{key} is {value!r}",
                hint=f"give a whole number from 1 to {known[key][1]}; {usual[key]} is usual",
            )
    return ProfileMethod(name, {**usual, **parameters})
