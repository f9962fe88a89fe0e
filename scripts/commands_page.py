"""Write docs/commands.md from what --help prints.

python scripts/commands_page.py docs/commands.md
"""

import sys
from pathlib import Path

import click

from actlab.cli.main import COMMANDS, actlab


def page() -> str:
    """Return the page: each command's help, as a terminal 100 columns wide shows it."""
    parts = ["# Commands", "", "Made from `--help` by `make docs`; a test keeps it current.", ""]
    root = click.Context(actlab, info_name="actlab", terminal_width=100, **actlab.context_settings)
    parts += ["## actlab", "", "```", actlab.get_help(root), "```", ""]
    for name in COMMANDS:
        command = actlab.commands[name].whole
        context = click.Context(command, info_name=name, parent=root, terminal_width=100)
        parts += [f"## actlab {name}", "", "```", command.get_help(context), "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
