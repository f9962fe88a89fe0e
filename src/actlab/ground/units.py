"""The unit of work, and a task's share of the units."""

import re
from dataclasses import dataclass
from typing import Self

from actlab.ground.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """Task `number` of `of`: the units whose number leaves the remainder number - 1 when divided by of."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2/3".

        >>> Part.parse("2/3")
        Part(number=2, of=3)

        Raises:
            ConfigError: Not i/n with 1 <= i <= n.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--part {text!r} is not a part of a whole", hint="write i/n, from 1/n to n/n")
        return cls(int(match[1]), int(match[2]))

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the work."""
        return self.of == 1

    def has(self, unit: int) -> bool:
        """Whether the unit of this number is this task's."""
        return unit % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
