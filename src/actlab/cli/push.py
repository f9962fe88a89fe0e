import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actlab.cli.common import echo, format_bytes, info, print_json, print_plan, set_loudness, warn
from actlab.ground import options
from actlab.ground.options import argument, execution

if TYPE_CHECKING:
    from actlab.hub.push import PlannedPush


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """What to push, and where to."""

    dir: str = argument()
    """A sealed dataset's folder."""
    repo_id: str = execution()
    """The dataset repository, as OWNER/NAME, or as NAME under your own login. Made where there is none."""
    private: bool = execution(True)
    """Only you, or the owner's members, can read it. A repository that is public already is then refused."""
    overwrite: bool = execution(False)
    """Replace whatever else the repository holds."""
    verify: bool = execution(True)
    """Hash the files first, and compare with the manifest; with --dry-run too."""
    dry_run: bool = execution(False)
    """Print what would go and stop, without asking the hub anything."""
    quiet: bool = execution(False)
    """Show no bar and no log, only warnings and errors."""
    json: bool = execution(False)
    """Print results on stdout as JSON."""


@options.command(PushConfig)
def command(config: PushConfig) -> None:
    """Uses the login of `hf auth login`, or HF_TOKEN. What the repository has already is not sent again; the files
    that say that the dataset is whole go last. A dataset without a README.md gets a card.

    \b
    actlab push Datasets/Activations/MODEL/DATASET --repo-id NAME --dry-run
    """
    from actlab.hub.push import plan_push, push_dataset

    set_loudness(config.quiet)
    folder = Path(os.path.expanduser(config.dir))
    if config.dry_run:
        plan = plan_push(
            folder, config.repo_id, private=config.private, verify=config.verify, quiet=config.quiet or config.json
        )
        if not config.verify:
            warn("%s: the files' hashes were not checked", folder)
        print_plan(plan, _as_text, as_json=config.json)
        return
    pushed = push_dataset(
        folder,
        config.repo_id,
        private=config.private,
        overwrite=config.overwrite,
        verify=config.verify,
        quiet=config.quiet,
    )
    if config.json:
        print_json(pushed)
    else:
        echo(pushed.url)
    info(
        "%d files sent (%s), %d were there",
        pushed.n_files_sent,
        format_bytes(pushed.n_bytes_sent),
        pushed.n_files_there,
    )


def _as_text(plan: "PlannedPush") -> str:
    sizes = [f"  {format_bytes(n_bytes):>10}  {path}" for path, n_bytes in plan.files.items()]
    who = "private" if plan.private else "public"
    return "\n".join([f"{plan.repo_id} ({who})", *sizes, f"  {len(plan.files)} files, {format_bytes(plan.n_bytes)}"])
