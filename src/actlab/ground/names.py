"""Names of folders."""

from actlab.ground.errors import ConfigError


def safe_name(name: str, what: str) -> str:
    """Return a name that may be one folder's name, and no more.

    Raises:
        ConfigError: It is empty, has a separator, or is one of the dots.
    """
    if not name or name.startswith(".") or set(name) & set('/\\:\0\n*?"<>|') or len(name) > 200:
        raise ConfigError(
            f"{name!r} cannot be the name of a {what}",
            hint="a name is one folder: no /, \\, : or leading dot",
        )
    if not name.isprintable() or any("\ud800" <= char <= "\udfff" for char in name):
        raise ConfigError(f"{name!a} cannot be the name of a {what}", hint="rename it in printable Unicode")
    if name.endswith((".partial", ".old", ".lock")):
        raise ConfigError(f"{name!r} cannot be the name of a {what}", hint="actlab uses that ending itself")
    return name
