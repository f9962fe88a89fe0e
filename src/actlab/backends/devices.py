"""What devices refuse, in words that name the way out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from actlab.backends.memory import is_out_of_memory
from actlab.ground.errors import ModelError

_LACKS = re.compile(r"operator '([\w:.]+)' is not currently? implemented for the MPS|run '([\w:.]+)'.*'MPS' backend")
"""Both ways in which torch says that an operation has no kernel for MPS."""


@contextmanager
def device_errors(device: torch.device, *, if_out_of_memory: str | None = None) -> Iterator[None]:
    """Turn what a device cannot compute, or has too little memory for, into a ModelError.

    MPS lacks some operations (NotImplementedError) and dtypes (TypeError). Running out of memory is passed on as it
    is where no hint is given for it: who can take a smaller batch does so.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        told = _told(error, device, if_out_of_memory)
        if told is None:
            raise
        raise told from error


def _told(error: Exception, device: torch.device, if_out_of_memory: str | None) -> ModelError | None:
    text = " ".join(str(error).split())
    if lacks := _LACKS.search(text):
        return ModelError(
            f"{lacks[1] or lacks[2]} is not implemented on mps",
            hint="set PYTORCH_ENABLE_MPS_FALLBACK=1 to compute such operations on the CPU, or use --device cpu",
        )
    if isinstance(error, TypeError) and "MPS" in text:
        return ModelError(text.split(". ")[0], hint="use --device cpu, or --model-dtype float32 where there is one")
    if if_out_of_memory is not None and isinstance(error, RuntimeError) and is_out_of_memory(error):
        return ModelError(f"out of memory on {device.type}", hint=if_out_of_memory)
    return None
