import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actlab.cli.common import echo, format_bytes
from actlab.ground import options
from actlab.ground.options import argument, execution
from actlab.ground.printing import printable_line


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify, and how deeply."""

    dir: Path = argument()
    """A dataset's folder, or a classifier dataset's file."""
    recompute: int = execution(0)
    """Run the model again on so many rows of each split and compare."""
    model: str | None = execution(None)
    """Where the model is, if not under the name in the manifest."""
    dataset: str | None = execution(None)
    """Where the source file is, if not in Datasets/SPDatasets."""
    device: Literal["auto", "cpu", "cuda", "mps"] = execution("auto")
    """Where to recompute."""
    plugins: tuple[str, ...] = execution(())
    """A module with variants that the dataset was made with: its name, or a .py file. May be given several times."""
    quiet: bool = execution(False)
    """Show no bar."""
    json: bool = execution(False)
    """Print the findings as JSON."""


@options.command(VerifyConfig)
def command(config: VerifyConfig) -> None:
    from actlab.datasets import verify_dataset

    found = verify_dataset(
        config.dir,
        recompute=config.recompute,
        model=config.model,
        dataset=config.dataset,
        device=config.device,
        quiet=config.quiet,
        plugins=config.plugins,
    )
    if config.json:
        recomputed = found.recomputed and found.recomputed._asdict()
        echo(json.dumps({**found._asdict(), "path": str(found.path), "recomputed": recomputed}, indent=2))
    else:
        if not found.has_manifest:
            echo("no manifest: hashes were not checked", err=True)
        for problem in found.problems:
            echo(f"WRONG {printable_line(problem)}")
        if found.recomputed:
            worst = max(found.recomputed.error_by_layer.values(), default=0.0)
            echo(
                f"recomputed {found.recomputed.n_rows} rows, one at a time: largest relative error {worst:.1e} "
                f"(allowed {found.recomputed.tolerance:.0e})"
            )
        verdict = f"{len(found.problems)} problems" if found.problems else "no problems found"
        echo(f"{found.path}: {found.n_files} files, {format_bytes(found.n_bytes)}: {verdict}")
    if found.problems:
        sys.exit(1)
