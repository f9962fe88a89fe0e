"""JSON that comes from outside, as a TypedDict says that it has to be."""

import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from actlab.ground.errors import StorageError

Shape = TypeVar("Shape")

_A = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object", list: "a list"}


def as_shape(path: Path, content: object, shape: type[Shape]) -> Shape:
    """Return what a file holds as a TypedDict, whose keys and their types it has to have; it may have more.

    Raises:
        StorageError: It is no object, or a key is missing or of another type.
    """
    if _is(content, shape):
        return content
    what = f"has no {_wrong(content, shape)}" if isinstance(content, dict) else "is no JSON object"
    raise StorageError(f"{path} {what}", hint="was it edited by hand?")


def _is(content: object, shape: type[Shape]) -> TypeGuard[Shape]:
    return isinstance(content, dict) and _wrong(content, shape) is None


@functools.cache
def _hints(shape: type) -> Mapping[str, tuple[Any, bool]]:
    """Return the type of each key, and whether it must be there."""
    required: frozenset[str] = vars(shape)["__required_keys__"]
    return {key: (hint, key in required) for key, hint in typing.get_type_hints(shape).items()}


def _wrong(content: Mapping[str, object], shape: type) -> str | None:
    """Name the first key that is not as it has to be."""
    for key, (hint, is_required) in _hints(shape).items():
        if key not in content:
            if is_required:
                return key + _said(hint)
        elif not fits(content[key], hint):
            return key + _said(hint)
    return None


def _said(hint: Any) -> str:
    kind = typing.get_origin(hint) or hint
    kind = dict if kind is Mapping else kind
    return f" that is {_A[kind]}" if kind in _A else ""


def fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is of a type."""
    if typing.is_typeddict(hint):
        return isinstance(value, dict) and _wrong(value, hint) is None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, one) for one in arguments)
    if origin is list:
        return isinstance(value, list) and (arguments[0] is Any or all(fits(one, arguments[0]) for one in value))
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if origin is typing.Literal:
        return value in arguments
    if hint in (object, Any):
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint or type(None))
