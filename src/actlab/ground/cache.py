"""Where actlab keeps what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return actlab's folder for what can be made again: `$ACTLAB_CACHE`, or one in the user's cache.

    Raises:
        RuntimeError: The user has no home folder, and neither variable is set.
    """
    chosen = os.environ.get("ACTLAB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actlab"
