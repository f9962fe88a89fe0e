"""How numbers are written in prompts: short, plain, and the same each time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from actlab.ground.errors import DataError

ROUND_TRIP_DIGITS = {"float32": 9, "float16": 5, "bfloat16": 4}
"""Significant digits that tell any two numbers of a precision apart: ceil(1 + bits × log10 2)."""


@dataclass(frozen=True)
class NumberFormat:
    """Digits after the point, or significant digits; zeros at the end are left out either way."""

    digits: int = 6
    kind: Literal["decimals", "significant"] = "decimals"

    def texts(self, values: Float[np.ndarray, "..."]) -> list[str]:
        """Write each number, in C order.

        >>> NumberFormat(3).texts(np.array([0.5, -0.0001, 2.0, 0.12345]))
        ['0.5', '0', '2', '0.123']
        >>> NumberFormat(4, "significant").texts(np.array([0.5, -0.0001, 2.0, 0.12345]))
        ['0.5', '-0.0001', '2', '0.1235']

        Raises:
            DataError: A number is infinite or NaN.
        """
        flat = np.asarray(values, dtype=np.float64).ravel()
        if not np.isfinite(flat).all():
            raise DataError("a number to be written is not finite", hint="leave this network out: it has diverged")
        if self.kind == "significant":
            return self._written(flat, "g")
        written = self._written(np.round(flat, self.digits), "f")
        return [text.rstrip("0").rstrip(".") for text in written] if self.digits else written

    def _written(self, flat: np.ndarray, conversion: str) -> list[str]:
        # One formatting of all numbers: half the time of one each. Adding 0.0 turns -0.0 into 0.0.
        return (f"%.{self.digits}{conversion} " * flat.size % tuple((flat + 0.0).tolist())).split()

    def rounded(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the float64 numbers that the texts stand for."""
        return np.array([float(text) for text in self.texts(values)]).reshape(values.shape)

    def array_json(self, values: Float[np.ndarray, "..."]) -> str:
        """Write an array of one or two dimensions as JSON without spaces.

        >>> NumberFormat().array_json(np.array([[1.0, 0.5], [0.25, 0.0]]))
        '[[1,0.5],[0.25,0]]'
        """
        texts = self.texts(values)
        if values.ndim == 1:
            return f"[{','.join(texts)}]"
        rows = zip(*[iter(texts)] * values.shape[1], strict=True)
        return "[" + ",".join(f"[{','.join(row)}]" for row in rows) + "]"


def number_format(digits: int | Literal["round-trip"], precision: str) -> NumberFormat:
    """Return so many decimals, or significant digits enough to get a number of this precision back."""
    if digits == "round-trip":
        return NumberFormat(ROUND_TRIP_DIGITS[precision], "significant")
    return NumberFormat(digits)


ROUND_TRIP_FLOAT32 = number_format("round-trip", "float32")
