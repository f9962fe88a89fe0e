import os
import sys
from dataclasses import dataclass
from pathlib import Path

from actlab.cli.common import EXIT_DROPPED, echo
from actlab.cli.kinds import KINDS, load
from actlab.ground import options, storage
from actlab.ground.errors import StorageError
from actlab.ground.manifest import n_dropped, read_manifest
from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class SealConfig:
    """What to seal."""

    dir: str = argument()
    """A dataset's folder or its .partial."""
    overwrite: bool = execution(False)
    """Replace an older dataset of that name."""


@options.command(SealConfig)
def command(config: SealConfig) -> None:
    path = Path(os.path.expanduser(config.dir))
    output = storage.output_of(path)
    staging = storage.reopen(path, overwrite=config.overwrite)
    if staging is not None:
        left = staging.left()
        if left:
            numbers = ", ".join(str(unit["unit"]) for unit in left[:8]) + (", …" if len(left) > 8 else "")
            raise StorageError(
                f"{len(left)} of {len(staging.plan.units)} units of {output} are missing: {numbers}",
                hint="run the command that makes it again, then it seals itself",
            )
        staging.seal(load(KINDS[staging.plan.kind].finish))
    echo(str(output))
    manifest = read_manifest(output)
    if manifest and n_dropped(manifest):
        sys.exit(EXIT_DROPPED)
