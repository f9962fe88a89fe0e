"""One definition of a setting: a dataclass field is the flag, the help, the YAML key, the Python argument.

A field is *identity* (it changes the data, so it is part of the fingerprint) unless it is made with
`execution`, which marks what only says how or where the work is done. A field whose type is a dataclass
is a group: its settings are called `group.name`, and have a flag of their own only where one is named.
"""

from actlab.ground.options.command import command
from actlab.ground.options.fields import (
    CommonOptions,
    Option,
    RunOptions,
    added,
    argument,
    as_path,
    check_counts,
    chosen,
    execution,
    group,
    options_of,
    secret,
    setting,
)
from actlab.ground.options.settings import config_of, from_settings, identity_of, read_yaml, takes, to_settings

__all__ = [
    "CommonOptions",
    "Option",
    "RunOptions",
    "added",
    "argument",
    "as_path",
    "check_counts",
    "chosen",
    "command",
    "config_of",
    "execution",
    "from_settings",
    "group",
    "identity_of",
    "options_of",
    "read_yaml",
    "secret",
    "setting",
    "takes",
    "to_settings",
]
