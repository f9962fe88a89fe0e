"""Functions that are imported when they are called, so that tables which name them stay light."""

import importlib
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Later(Generic[Given, Result]):
    """A function named as "module:function", imported when it is called."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, *args: Given.args, **settings: Given.kwargs) -> Result:
        """Call it."""
        return self.function(*args, **settings)

    @property
    def function(self) -> Callable[Given, Result]:
        """The function itself."""
        module, name = self.where.split(":")
        function: Callable[Given, Result] = getattr(importlib.import_module(module), name)
        return function
