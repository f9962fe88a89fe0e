"""Memory of the host and the device: keep it between batches, notice when it is out, give it back."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_TRIM_THRESHOLD = -1  # from glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
"""glibc takes no more on 64 bits; its own adjusting ends there too, with twice as much for trimming."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep the C library from handing freed memory back to the system between batches.

    Each block of each batch frees tensors and wants some of the same size again; glibc gives the end of its heap
    back in between, whenever nothing happens to lie behind it, and the same pages fault in anew: up to a sixth
    of a run's CPU time, at random from process to process. Without glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    glibc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    try:
        yield
    finally:
        glibc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        glibc.malloc_trim(0)


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, and MPS at its watermark
    "can't allocate memory",
    "Cannot allocate memory",
    "Invalid buffer size",  # MPS: one tensor larger than Metal's buffers may be (pytorch issue 187567)
    "CUBLAS_STATUS_ALLOC_FAILED",  # CUDA: nothing left for the workspace of a matrix product
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the host in its stead, had too little memory for a batch."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give the memory that a failed batch held back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
