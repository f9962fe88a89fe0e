import json
from dataclasses import dataclass
from pathlib import Path

from actlab.cli.common import echo, format_bytes, set_loudness
from actlab.ground import options
from actlab.ground.options import argument, execution


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """What to push, and where to."""

    dir: Path = argument()
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
    from actlab.ground.log import log
    from actlab.hub.push import push_dataset, sizes_to_push

    set_loudness(config.quiet)
    if config.dry_run:
        sizes = sizes_to_push(config.dir, config.repo_id, verify=config.verify, quiet=config.quiet or config.json)
        if not config.verify:
            log.warning("%s: the files' hashes were not checked", config.dir)
        _print_plan(config, sizes)
        return
    pushed = push_dataset(
        config.dir,
        config.repo_id,
        private=config.private,
        overwrite=config.overwrite,
        verify=config.verify,
        quiet=config.quiet,
    )
    echo(json.dumps(pushed._asdict(), indent=2) if config.json else pushed.url)
    log.info(
        "%d files sent (%s), %d were there",
        pushed.n_files_sent,
        format_bytes(pushed.n_bytes_sent),
        pushed.n_files_there,
    )


def _print_plan(config: PushConfig, sizes: dict[str, int]) -> None:
    total = sum(sizes.values())
    if config.json:
        plan = {"repo_id": config.repo_id, "private": config.private, "n_bytes": total, "files": sizes}
        echo(json.dumps(plan, indent=2))
    else:
        lines = [f"  {format_bytes(n_bytes):>10}  {path}" for path, n_bytes in sizes.items()]
        who = "private" if config.private else "public"
        last = f"  {len(sizes)} files, {format_bytes(total)}"
        echo("\n".join([f"{config.repo_id} ({who})", *lines, last]))
