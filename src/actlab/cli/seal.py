import sys
from dataclasses import dataclass
from pathlib import Path

from actlab.cli.common import EXIT_DROPPED, echo
from actlab.ground import options
from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class SealConfig:
    """What to seal."""

    dir: Path = argument()
    """A dataset's folder or its .partial."""
    overwrite: bool = execution(False)
    """Replace an older dataset of that name."""
    plugins: tuple[str, ...] = execution(())
    """A module with variants that the dataset is made with: its name, or a .py file. May be given several times."""


@options.command(SealConfig)
def command(config: SealConfig) -> None:
    from actlab.datasets import seal_dataset

    sealed = seal_dataset(config.dir, overwrite=config.overwrite, plugins=config.plugins)
    echo(str(sealed.path))
    if sealed.falls_short:
        sys.exit(EXIT_DROPPED)
