"""On what a dataset's units were made: versions and machines, which bytes may depend on besides the settings."""

import json
from collections.abc import Iterable, Sequence

from actlab.ground.log import log
from actlab.ground.manifest import Environment


def made_on(environments: Iterable[Environment]) -> list[Environment]:
    """Return the environments of units, each once, for the manifest; warn where they are not all the same."""
    distinct = {json.dumps(one, sort_keys=True): one for one in environments}
    found = [distinct[key] for key in sorted(distinct)]
    if unlike := unlike_parts(found):
        log.warning("units were made under different versions or machines: %s", "; ".join(unlike))
    return found


def unlike_parts(environments: Sequence[Environment]) -> list[str]:
    """Name what environments differ in.

    >>> unlike_parts([{"torch": "2.12.0", "device": "cpu"}, {"torch": "2.13.0", "device": "cpu"}])
    ['torch 2.12.0 / 2.13.0']
    """
    keys = list(dict.fromkeys(key for one in environments for key in one))
    values = {key: list(dict.fromkeys(str(one.get(key, "none")) for one in environments)) for key in keys}
    return [f"{key} {' / '.join(several)}" for key, several in values.items() if len(several) > 1]
