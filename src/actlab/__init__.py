"""Turn language models and small networks into datasets that interpretability researchers can trust.

What the command line does, these functions do; they are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actlab.activations.config import ExtractConfig
    from actlab.activations.run import extract_activations, plan_extraction, preview_texts
    from actlab.activations.show import show_activations
    from actlab.activations.verify.run import verify_activations
    from actlab.formats.activations import Activations, load_activations, open_activations
    from actlab.ground.errors import ActlabError

__version__ = "0.1.0"

_HOMES = {
    "ActlabError": "actlab.ground.errors",
    "Activations": "actlab.formats.activations",
    "ExtractConfig": "actlab.activations.config",
    "extract_activations": "actlab.activations.run",
    "load_activations": "actlab.formats.activations",
    "open_activations": "actlab.formats.activations",
    "plan_extraction": "actlab.activations.run",
    "preview_texts": "actlab.activations.run",
    "show_activations": "actlab.activations.show",
    "verify_activations": "actlab.activations.verify.run",
}

__all__ = [
    "Activations",
    "ActlabError",
    "ExtractConfig",
    "extract_activations",
    "load_activations",
    "open_activations",
    "plan_extraction",
    "preview_texts",
    "show_activations",
    "verify_activations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'actlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
