"""Layer specs: "all", "0,5,-1", "0-10", "0-10:2"."""

import re

from actlab.ground.errors import ConfigError

_ITEM = re.compile(r"(?P<first>-?\d{1,6})(?:-(?P<last>-?\d{1,6})(?::(?P<step>\d{1,6}))?)?")


def check_layers(spec: str) -> None:
    """Refuse a layer spec that no model could satisfy.

    Raises:
        ConfigError: The spec does not parse.
    """
    _parse(spec)


def parse_layers(spec: str, n_layers: int) -> tuple[int, ...]:
    """Turn a layer spec into ascending layer indices, without repeats.

    Ranges include both ends; a negative index counts back from the last layer.

    >>> parse_layers("0-4:2,-1", n_layers=12)
    (0, 2, 4, 11)
    >>> parse_layers("all", n_layers=3)
    (0, 1, 2)

    Raises:
        ConfigError: The spec does not parse, or names a layer the model lacks.
    """
    items = _parse(spec)
    if items is None:
        return tuple(range(n_layers))

    def resolve(index: int) -> int:
        if not -n_layers <= index < n_layers:
            raise ConfigError(
                f"--layers {spec!r} names layer {index}, but the model has {n_layers}",
                hint=f"use 0 to {n_layers - 1}, or count back from -1",
            )
        return index % n_layers

    chosen: set[int] = set()
    for first, last, step in items:
        low, high = resolve(first), resolve(last)
        if low > high:
            raise ConfigError(
                f"--layers {spec!r} has a range that runs backwards: {low} to {high}",
                hint="write the lower layer first, as in 0-10",
            )
        chosen.update(range(low, high + 1, step))
    return tuple(sorted(chosen))


def parse_layers_arg(spec: str) -> list[int]:
    """Turn "0-2,10,15-17" into ascending layer numbers, without repeats; what layers there are, a file says.

    >>> parse_layers_arg("0-2,10,15-17")
    [0, 1, 2, 10, 15, 16, 17]

    Raises:
        ConfigError: The spec does not parse, is "all", has a negative number, or runs backwards.
    """
    items = _parse(spec)
    if items is None or any(first < 0 or last < 0 for first, last, _ in items):
        raise ConfigError(f"--layers {spec!r} is not a list of layers", hint='write "0-5", "2,5,10" or "0-2,10,15-17"')
    if any(first > last for first, last, _ in items):
        raise ConfigError(f"--layers {spec!r} has a range that runs backwards", hint="write the lower layer first")
    return sorted({layer for first, last, step in items for layer in range(first, last + 1, step)})


def _parse(spec: str) -> list[tuple[int, int, int]] | None:
    """Return (first, last, step) for each item, or None for "all"."""
    if spec.strip() == "all":
        return None
    items = []
    for part in spec.split(","):
        match = _ITEM.fullmatch(part.strip())
        step = int((match and match["step"]) or 1)
        if match is None or step == 0:
            raise ConfigError(
                f"--layers {spec!r} does not parse at {part.strip()!r}",
                hint='write "all", "0,5,-1", "0-10" or "0-10:2"',
            )
        first = int(match["first"])
        items.append((first, first if match["last"] is None else int(match["last"]), step))
    return items
