"""From a prompt to text, refined and tokenised, and a small GPT trained on it.

The classes are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actlab.text.api import DataGenerator, DataRefiner, Ollama, Sample, Template
    from actlab.text.dataset import EpochSampler, TextDataset

__all__ = ["DataGenerator", "DataRefiner", "EpochSampler", "Ollama", "Sample", "Template", "TextDataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "dataset" if name in ("EpochSampler", "TextDataset") else "api"
    return getattr(importlib.import_module(f"actlab.text.{module}"), name)
